//! What a person chooses about the waiting room.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A waiting room in front of the engine. A caller (its name, or else its address, one /64 of IPv6) takes one place, however
/// many tabs it has open; who finds none waits in order and is told where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WaitingSettings {
    /// Whether there is one. Without it every caller comes to the engine's own queue.
    pub enabled: bool,
    /// Callers at the engine at the same time.
    pub places: NonZeroUsize,
    /// Callers that wait. One more is refused with 429.
    pub waiters: NonZeroUsize,
    /// A place is free again after so long without a picture, in seconds.
    pub idle_s: NonZeroU64,
    /// How long a caller keeps its place while others wait, in seconds; then it queues again.
    pub session_s: NonZeroU64,
    /// How long the place of a waiter who went away is kept, in the queue and once its turn has come, in seconds.
    pub grace_s: NonZeroU64,
    /// How long a request waits for its turn before it is answered 429 with its place, in milliseconds. Sockets wait on.
    pub hold_ms: u64,
}

impl Default for WaitingSettings {
    fn default() -> Self {
        let seconds = |value| NonZeroU64::new(value).expect("defaults are not zero");
        let size = |value| NonZeroUsize::new(value).expect("defaults are not zero");
        Self {
            enabled: false,
            places: size(8),
            waiters: size(1000),
            idle_s: seconds(30),
            session_s: seconds(300),
            grace_s: seconds(20),
            hold_ms: 10_000,
        }
    }
}

impl WaitingSettings {
    /// What is wrong with the values, each with its key.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let longest = 10 * 365 * 86_400;
        let times = [("idle_s", self.idle_s), ("session_s", self.session_s), ("grace_s", self.grace_s)];
        let mut faults: Vec<_> = times
            .into_iter()
            .filter(|(_, value)| value.get() > longest)
            .map(|(key, value)| (key.to_owned(), format!("{value} s is more than ten years")))
            .collect();
        if self.hold_ms > 600_000 {
            faults.push(("hold_ms".to_owned(), format!("{} is more than ten minutes", self.hold_ms)));
        }
        faults
    }

    pub(in crate::host) fn hold(&self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}
