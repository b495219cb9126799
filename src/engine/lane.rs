//! Whose turn it is: jobs of one lane take turns with those of others.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// One pen, or one caller: whoever is to have a fair share of the device.
///
/// No lane gets a second row before another lane that waits has its first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(u64);

impl Lane {
    /// A lane that no other job is in yet.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Spread over all numbers, so that it meets none that was made of a name.
        Self(NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The lane of `whom`: equal values are one lane. Two callers who share a number would share a lane, and nothing else.
    pub fn of(whom: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        whom.hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self::new()
    }
}

/// How a job stands to the older jobs of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Behind them: every one counts.
    #[default]
    InTurn,
    /// Before them: the newest stroke is the one that is looked at.
    NewestFirst,
    /// In their place: those that wait end with [`super::EngineError::Superseded`] at once, those that run at their next step.
    Supersedes,
}
