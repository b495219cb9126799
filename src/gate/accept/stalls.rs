//! Which answers of an HTTP/2 connection wait for a client that does not open its window.
//!
//! A stalled stream keeps no byte from flowing on the connection, so the deadline of writes does not see it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    since: Vec<Option<Instant>>,
    free: Vec<usize>,
}

impl Stalls {
    /// A mark for one more answer.
    pub(super) fn mark(self: &Arc<Self>) -> Mark {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.since.push(None);
            slots.since.len() - 1
        });
        Mark { stalls: Arc::clone(self), slot }
    }

    /// For how long the most patient answer has not been asked for its next piece.
    pub(super) fn longest(&self) -> Duration {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.since.iter().flatten().min().map_or(Duration::ZERO, Instant::elapsed)
    }
}

/// One answer: did it give a piece and was not asked again?
#[derive(Debug)]
pub(super) struct Mark {
    stalls: Arc<Stalls>,
    slot: usize,
}

impl Mark {
    /// Notes that a piece was given just now, or that the answer itself has none yet.
    pub(super) fn set(&self, given: bool) {
        let mut slots = self.stalls.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.since[self.slot] = given.then(Instant::now);
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut slots = self.stalls.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.since[self.slot] = None;
        slots.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_an_answer_that_gave_and_was_not_asked_again_is_stalled() {
        let stalls = Arc::new(Stalls::default());
        let (one, two) = (stalls.mark(), stalls.mark());
        one.set(true);
        two.set(false);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(stalls.longest(), Duration::from_secs(7));
        drop(one);
        assert_eq!(stalls.longest(), Duration::ZERO);
        stalls.mark().set(false);
        assert_eq!(stalls.slots.lock().unwrap().since.len(), 2);
    }
}
