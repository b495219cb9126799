//! Whole requests in batches, in numbers: how an engine works that lets nobody join a batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::engine::desk::Event;
use crate::engine::plan::Waiting;
use crate::engine::{Costs, Phase, Size};

/// A device that runs whole requests together.
pub(super) struct Whole {
    costs: Costs,
    rows: usize,
    now: Instant,
    waiting: VecDeque<(Waiting, usize)>,
    /// Painters of the batch, and the steps that each has left.
    batch: Vec<(usize, usize)>,
    size: Size,
}

impl Whole {
    pub(super) fn new(costs: Costs, rows: usize, now: Instant) -> Self {
        Self { costs, rows, now, waiting: VecDeque::new(), batch: Vec::new(), size: (0, 0) }
    }

    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn pass(&mut self, time: Instant) {
        self.now = self.now.max(time);
    }

    pub(super) fn came(&mut self, job: Waiting, painter: usize) {
        self.waiting.push_back((job, painter));
    }

    /// The next call: the pictures that are finished, else a step of the batch, else a new batch of those that wait.
    pub(super) fn advance(&mut self) -> Event {
        let finished: Vec<usize> =
            self.batch.extract_if(.., |(_, left)| *left == 0).map(|(painter, _)| painter).collect();
        if !finished.is_empty() {
            self.spend(Phase::Decode, finished.len());
            return Event::Decoded(finished);
        }
        if !self.batch.is_empty() {
            self.spend(Phase::Step, self.batch.len());
            self.batch.iter_mut().for_each(|(_, left)| *left -= 1);
            return Event::Stepped(self.batch.iter().map(|(painter, _)| *painter).collect());
        }
        let Some((first, _)) = self.waiting.front() else { return Event::Idle };
        self.size = first.size;
        let count = self.waiting.len().min(self.rows);
        self.batch = self.waiting.drain(..count).map(|(job, painter)| (painter, job.steps)).collect();
        self.spend(Phase::Encode, count);
        Event::Encoded(self.batch.iter().map(|(painter, _)| *painter).collect())
    }

    fn spend(&mut self, phase: Phase, rows: usize) {
        self.now += self.costs.predict(phase, (self.size, rows)).unwrap_or(Duration::ZERO);
    }
}
