//! A caller's claim on a result.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::fleet::Fleet;
use super::queue::Place;
use super::{Done, EngineError};

/// A caller's claim on the result of a job: a future that gives it.
///
/// Dropping it cancels the job. A job that waits leaves the queue at once, one that runs leaves its batch at the next step,
/// and the pictures that share the batch are not disturbed.
#[must_use = "dropping a ticket cancels its job"]
pub struct Ticket {
    fleet: Arc<Fleet>,
    place: Place,
    answered: bool,
}

impl Ticket {
    pub(super) fn new(fleet: Arc<Fleet>, place: Place) -> Self {
        Self { fleet, place, answered: false }
    }

    /// Whether the job still waits for a device. Once it has begun this stays false, unless its device fails and it waits for
    /// another one.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.fleet.holds(self.place.id)
    }
}

impl Future for Ticket {
    type Output = Result<Done, EngineError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.place.result).poll(cx).map(|result| {
            self.answered = true;
            // Only a thread that died without a word drops its end.
            result.unwrap_or(Err(EngineError::Closed))
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.answered {
            self.place.result.close();
            self.fleet.leave(self.place.id);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("id", &self.place.id).finish_non_exhaustive()
    }
}
