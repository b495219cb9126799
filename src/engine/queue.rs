//! Jobs that wait, and the door they come through. Shared by the callers and the engine's thread; the lock is only ever held
//! for bookkeeping.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot, watch};

use super::metrics::Outcome;
use super::plan::{self, Decision, Limits, Outlook, Waiting};
use super::recipe::Recipe;
use super::{Done, EngineError, EngineMetrics, EngineState, ModelFacts, OpenError, Schedule};

/// A model's numbers, known once it is loaded.
pub(super) struct Model {
    pub(super) facts: Arc<ModelFacts>,
    pub(super) schedule: Schedule,
}

/// A job in the queue.
pub(super) struct Queued {
    id: u64,
    pub(super) recipe: Recipe,
    pub(super) since: Instant,
    start_by: Option<Instant>,
    pub(super) answer: Answer,
}

impl Queued {
    fn waiting(&self) -> Waiting {
        let (size, rows) = (self.recipe.size(), self.recipe.seeds.len());
        Waiting { size, rows, since: self.since, start_by: self.start_by }
    }
}

/// Where a job's result goes; it is counted on its way.
pub(super) struct Answer {
    to: oneshot::Sender<Result<Done, EngineError>>,
    metrics: EngineMetrics,
}

impl Answer {
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

/// Whether jobs are let in.
enum Door {
    Loading,
    Open,
    Closed,
    Failed(Arc<OpenError>),
}

struct Queue {
    waiting: VecDeque<Queued>,
    door: Door,
    next_id: u64,
}

/// What callers and the engine's thread share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    bell: Condvar,
    room: Notify,
    limit: usize,
    model: OnceLock<Model>,
    state: watch::Sender<EngineState>,
    metrics: EngineMetrics,
}

/// A place in the queue.
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) result: oneshot::Receiver<Result<Done, EngineError>>,
}

impl Shared {
    /// An empty queue for `limit` jobs, in front of a model that is yet to be loaded.
    pub(super) fn new(limit: usize, metrics: EngineMetrics) -> Self {
        Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), door: Door::Loading, next_id: 0 }),
            bell: Condvar::new(),
            room: Notify::new(),
            limit,
            model: OnceLock::new(),
            state: watch::Sender::new(EngineState::Loading { progress: None }),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock is complete before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn model(&self) -> Option<&Model> {
        self.model.get()
    }

    pub(super) fn state(&self) -> &watch::Sender<EngineState> {
        &self.state
    }

    pub(super) fn metrics(&self) -> &EngineMetrics {
        &self.metrics
    }

    /// Says whether a job would be let in.
    pub(super) fn check_door(&self) -> Result<(), EngineError> {
        self.lock().door.check()
    }

    /// Queues a job; where there is no room it stays with the caller.
    pub(super) fn enter(&self, job: &mut Option<Recipe>, start_by: Option<Instant>) -> Result<Place, EngineError> {
        let (to, result) = oneshot::channel();
        let answer = Answer { to, metrics: self.metrics.clone() };
        let mut queue = self.lock();
        queue.door.check()?;
        if queue.waiting.len() >= self.limit {
            return Err(EngineError::Full { limit: self.limit });
        }
        let recipe = job.take().expect("a job is queued once");
        let id = queue.next_id;
        queue.next_id += 1;
        queue.waiting.push_back(Queued { id, recipe, since: Instant::now(), start_by, answer });
        self.metrics.set_waiting(queue.waiting.len());
        drop(queue);
        self.bell.notify_one();
        Ok(Place { id, result })
    }

    /// Ready when there may be room again, or when nobody is let in any more.
    pub(super) fn room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Whether a job still waits for the device.
    pub(super) fn holds(&self, id: u64) -> bool {
        self.lock().waiting.iter().any(|queued| queued.id == id)
    }

    /// Takes a job that nobody waits for out of the queue, if it is still there.
    pub(super) fn leave(&self, id: u64) {
        let mut queue = self.lock();
        let place = queue.waiting.iter().position(|queued| queued.id == id);
        let left = place.and_then(|place| queue.waiting.remove(place));
        self.metrics.set_waiting(queue.waiting.len());
        drop(queue);
        if let Some(queued) = left {
            self.room.notify_one();
            queued.answer.drop_unwanted();
        }
    }

    /// Waits for the next batch. `None` once the door is shut and nothing waits.
    pub(super) fn next_batch(&self, limits: Limits) -> Option<Vec<Queued>> {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let late = self.take_expired(&mut queue, now);
            if !late.is_empty() {
                drop(queue);
                refuse_late(late);
                queue = self.lock();
                continue;
            }
            let outlook = if matches!(queue.door, Door::Open) { Outlook::Open } else { Outlook::Closing };
            let waiting: Vec<Waiting> = queue.waiting.iter().map(Queued::waiting).collect();
            queue = match plan::decide(&waiting, limits, outlook, now) {
                Decision::Run(batch) => return Some(self.take(&mut queue, &batch)),
                Decision::Idle if outlook == Outlook::Closing => return None,
                Decision::Idle => self.bell.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Decision::WaitUntil(time) => {
                    let wait = time.saturating_duration_since(now);
                    self.bell.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Refuses the jobs that it has become too late to start.
    pub(super) fn sweep(&self) {
        let mut queue = self.lock();
        let late = self.take_expired(&mut queue, Instant::now());
        drop(queue);
        refuse_late(late);
    }

    fn take_expired(&self, queue: &mut Queue, now: Instant) -> Vec<Queued> {
        if queue.waiting.iter().all(|queued| queued.start_by.is_none()) {
            return Vec::new();
        }
        let waiting: Vec<Waiting> = queue.waiting.iter().map(Queued::waiting).collect();
        self.take(queue, &plan::expired(&waiting, now))
    }

    /// Takes the jobs at `indices`, ascending, out of the queue.
    fn take(&self, queue: &mut Queue, indices: &[usize]) -> Vec<Queued> {
        let mut taken: Vec<Queued> = indices.iter().rev().filter_map(|index| queue.waiting.remove(*index)).collect();
        taken.reverse();
        self.metrics.set_waiting(queue.waiting.len());
        taken.iter().for_each(|_| self.room.notify_one());
        taken
    }

    /// Lets jobs in: the model is loaded. Does nothing if the door was shut meanwhile.
    pub(super) fn open(&self, model: Model) {
        let mut queue = self.lock();
        if matches!(queue.door, Door::Loading) {
            queue.door = Door::Open;
            if self.model.set(model).is_err() {
                unreachable!("an engine loads one model");
            }
            drop(queue);
            self.state.send_replace(EngineState::Ready);
        }
    }

    /// Shuts the door. Jobs that wait are still run.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        if matches!(queue.door, Door::Loading | Door::Open) {
            queue.door = Door::Closed;
        }
        drop(queue);
        self.bell.notify_one();
        self.room.notify_waiters();
    }

    /// Shuts the door for good and refuses the jobs that wait.
    pub(super) fn fail(&self, cause: OpenError) {
        let cause = Arc::new(cause);
        let mut queue = self.lock();
        queue.door = Door::Failed(Arc::clone(&cause));
        let waiting = std::mem::take(&mut queue.waiting);
        self.metrics.set_waiting(0);
        drop(queue);
        self.room.notify_waiters();
        self.state.send_replace(EngineState::Failed(Arc::clone(&cause)));
        for queued in waiting {
            queued.answer.give(Err(EngineError::Failed { cause: Arc::clone(&cause) }));
        }
    }
}

impl Door {
    fn check(&self) -> Result<(), EngineError> {
        match self {
            Self::Open => Ok(()),
            Self::Loading => Err(EngineError::Loading),
            Self::Closed => Err(EngineError::Closed),
            Self::Failed(cause) => Err(EngineError::Failed { cause: Arc::clone(cause) }),
        }
    }
}

fn refuse_late(late: Vec<Queued>) {
    for queued in late {
        queued.answer.give(Err(EngineError::StartTimeout));
    }
}
