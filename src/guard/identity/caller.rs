//! Who a caller turns out to be.

use std::sync::Arc;

/// What the names of visitors begin with. Nobody else's do.
const VISITOR: &str = "visitor-";

/// Who calls. Added by [`IdentityLayer`](super::IdentityLayer).
///
/// Names are one space: a key for `ann` and a token for `ann` are the same caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The caller's name: what stands beside a key, a token's claim, what the application says of a session, or
    /// `visitor-…`.
    pub name: Arc<str>,
}

impl Caller {
    /// A visitor with this number.
    pub(super) fn visitor(number: &str) -> Self {
        Self { name: format!("{VISITOR}{number}").into() }
    }

    /// Whether this is a visitor: recognised, but nobody in particular.
    #[must_use]
    pub fn is_visitor(&self) -> bool {
        self.name.starts_with(VISITOR)
    }
}
