//! A job that waits, and where its result goes.

use std::time::Instant;

use tokio::sync::oneshot;

use super::metrics::Outcome;
use super::plan::Waiting;
use super::recipe::Recipe;
use super::{Done, EngineError, EngineMetrics};

/// A job in the queue.
pub(super) struct Queued {
    pub(super) id: u64,
    pub(super) recipe: Recipe,
    pub(super) since: Instant,
    /// UNet calls that had begun when it came.
    pub(super) calls: u64,
    /// UNet calls since then that began although it had a place.
    pub(super) placed: u64,
    /// The turn that all lanes had come to when it came.
    pub(super) turn: u64,
    /// Devices that failed while it was on its way.
    pub(super) failures: u8,
    pub(super) answer: Answer,
}

impl Queued {
    /// What a decision needs to know of it after `calls` UNet calls.
    pub(super) fn waiting(&self, calls: u64) -> Waiting {
        let Self { placed, turn, .. } = *self;
        Waiting { waited: calls - self.calls, placed, turn, ..self.recipe.waiting(self.since) }
    }
}

/// Where a job's result goes; it is counted on its way.
pub(super) struct Answer {
    to: oneshot::Sender<Result<Done, EngineError>>,
    metrics: EngineMetrics,
}

impl Answer {
    /// The two ends of a result's way.
    pub(super) fn channel(metrics: &EngineMetrics) -> (Self, oneshot::Receiver<Result<Done, EngineError>>) {
        let (to, result) = oneshot::channel();
        (Self { to, metrics: metrics.clone() }, result)
    }

    /// Whether nobody waits any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.to.is_closed()
    }

    /// Delivers a result.
    pub(super) fn give(self, result: Result<Done, EngineError>) {
        if self.is_unwanted() {
            return self.drop_unwanted();
        }
        if let Ok(done) = &result {
            self.metrics.finished(&done.timings);
        }
        // Counted first, so that whoever has the result also finds it counted.
        self.metrics.ended(result.as_ref().map_or_else(Outcome::from, |_| Outcome::Done));
        // Whoever left in this moment needs no answer.
        let _ = self.to.send(result);
    }

    /// Records that nobody waits any more.
    pub(super) fn drop_unwanted(self) {
        self.metrics.ended(Outcome::Cancelled);
    }
}
