//! Jobs that wait, and the door they come through. Shared by the callers and the engine's thread; the lock is only ever held
//! for bookkeeping.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot, watch};

use super::desk::Desk;
use super::door::Door;
use super::floor::Floor;
use super::ledger::Ledger;
use super::plan::{Decision, Outlook, Waiting};
use super::queued::{Answer, Queued};
use super::recipe::Recipe;
use super::seen::Seen;
use super::{Done, EngineError, EngineMetrics, EngineState, Lane, ModelFacts, OpenError, Order, Schedule};

/// A model's numbers, known once it is loaded.
pub(super) struct Model {
    pub(super) facts: Arc<ModelFacts>,
    pub(super) schedule: Schedule,
}

/// What the engine's thread does next.
pub(super) enum Work {
    /// Begin and encode rows: jobs that come from the queue, and the job of each row in order of turns.
    Encode { jobs: Vec<Queued>, rows: Vec<u64> },
    /// Evaluate the UNet for these rows of the floor, ascending.
    Step(Vec<usize>),
    /// Decode these rows of the floor, ascending.
    Decode(Vec<usize>),
    /// Check these decoded pictures of the floor, ascending.
    Check(Vec<usize>),
}

struct Queue {
    waiting: VecDeque<Queued>,
    door: Door,
    next_id: u64,
    /// UNet calls that have begun.
    calls: u64,
    /// The turn that all lanes have come to.
    turn: u64,
    /// Lanes with rows under way, and the newest job of each that takes the place of older ones.
    lanes: Vec<(Lane, Option<u64>)>,
    /// The device as it will be after the call that is being made, for forecasts; `None` before the first.
    desk: Option<Arc<Desk>>,
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
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                door: Door::Loading,
                next_id: 0,
                calls: 0,
                turn: 0,
                lanes: Vec::new(),
                desk: None,
            }),
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

    /// UNet calls that have begun.
    pub(super) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Says whether a job would be let in.
    pub(super) fn check_door(&self) -> Result<(), EngineError> {
        self.lock().door.check()
    }

    /// Queues a job; where there is no room it stays with the caller.
    pub(super) fn enter(&self, job: &mut Option<Recipe>) -> Result<Place, EngineError> {
        let now = Instant::now();
        if let Some(recipe) = job {
            self.check_deadline(recipe, now)?;
        }
        let (answer, result) = Answer::channel(&self.metrics);
        let mut queue = self.lock();
        queue.door.check()?;
        let recipe = job.take().expect("a job is queued once");
        // Where it takes the place of another one there is room.
        let superseded = match recipe.order {
            Order::Supersedes => self.take(&mut queue, |queued| queued.recipe.lane == recipe.lane),
            Order::InTurn | Order::NewestFirst => Vec::new(),
        };
        if queue.waiting.len() >= self.limit {
            *job = Some(recipe);
            return Err(EngineError::Full { limit: self.limit });
        }
        let (id, calls, turn) = (queue.next_id, queue.calls, queue.turn);
        queue.next_id += 1;
        if recipe.order == Order::Supersedes {
            queue.supersede(recipe.lane, id);
        }
        queue.waiting.push_back(Queued { id, recipe, since: now, calls, placed: 0, turn, answer });
        self.metrics.set_waiting(queue.waiting.len());
        drop(queue);
        superseded.into_iter().for_each(|queued| queued.answer.give(Err(EngineError::Superseded)));
        self.bell.notify_one();
        Ok(Place { id, result })
    }

    /// Refuses a job that would miss its deadline, by what the work before it costs.
    fn check_deadline(&self, recipe: &Recipe, now: Instant) -> Result<(), EngineError> {
        let Some(start_by) = recipe.start_by else { return Ok(()) };
        let queue = self.lock();
        // Who is not let in anyhow is not reckoned for.
        queue.door.check()?;
        if recipe.order != Order::Supersedes && queue.waiting.len() >= self.limit {
            return Err(EngineError::Full { limit: self.limit });
        }
        let Some(desk) = queue.desk.clone() else { return Ok(()) };
        let waiting: Vec<Waiting> = queue.waiting.iter().map(|queued| queued.waiting(queue.calls)).collect();
        drop(queue);
        let mut desk = Desk::clone(&desk);
        desk.pass(now);
        waiting.into_iter().for_each(|job| desk.came(job, 0));
        match desk.start_of(recipe.waiting(now)) {
            Some(start) if start > start_by => Err(EngineError::TooLate { wait: start - now }),
            _ => Ok(()),
        }
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

    /// Waits for the next thing to do. `None` once the door is shut and nothing waits or runs.
    ///
    /// Whoever has gone, or whose job a newer one replaces, leaves the floor first; whoever is too late is refused.
    pub(super) fn next_work(&self, floor: &mut Floor, ledger: &mut Ledger) -> Option<Work> {
        floor.sweep();
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let late = self.take_expired(&mut queue, now);
            let superseded = queue.take_superseded();
            if !late.is_empty() || !superseded.is_empty() {
                drop(queue);
                late.into_iter().for_each(|queued| queued.answer.give(Err(EngineError::StartTimeout)));
                superseded.into_iter().for_each(|(lane, by)| floor.supersede(lane, by));
                floor.sweep();
                queue = self.lock();
                continue;
            }
            queue.lanes = floor.lanes().map(|lane| (lane, None)).collect();
            queue.turn = ledger.turns.now();
            let seen = queue.seen(floor);
            let decision = seen.decide(ledger, queue.door.outlook(), now);
            queue = match &decision {
                Decision::Idle if queue.door.outlook() == Outlook::Closing => return None,
                Decision::Idle => {
                    ledger.turns.rest();
                    queue.desk = Some(Arc::new(seen.after(decision, ledger, now)));
                    self.bell.wait(queue).unwrap_or_else(PoisonError::into_inner)
                }
                Decision::WaitUntil(time) => {
                    let wait = time.saturating_duration_since(now);
                    self.bell.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                Decision::Encode(picks) => {
                    let rows: Vec<u64> = picks.iter().map(|index| seen.waiting[*index].0).collect();
                    let jobs = self.take(&mut queue, |queued| rows.contains(&queued.id));
                    queue.lanes.extend(jobs.iter().map(|queued| (queued.recipe.lane, None)));
                    queue.desk = Some(Arc::new(seen.after(decision, ledger, now)));
                    return Some(Work::Encode { jobs, rows });
                }
                Decision::Step(rows) => {
                    let rows = rows.clone();
                    queue.calls += 1;
                    let placed = seen.places(ledger, now);
                    let placed: Vec<u64> = placed.into_iter().map(|index| seen.waiting[index].0).collect();
                    for queued in queue.waiting.iter_mut().filter(|queued| placed.contains(&queued.id)) {
                        queued.placed += 1;
                    }
                    queue.desk = Some(Arc::new(seen.after(decision, ledger, now)));
                    return Some(Work::Step(rows));
                }
                Decision::Decode(rows) => {
                    let rows = rows.clone();
                    queue.desk = Some(Arc::new(seen.after(decision, ledger, now)));
                    return Some(Work::Decode(rows));
                }
                Decision::Check(pictures) => {
                    let pictures = pictures.clone();
                    queue.desk = Some(Arc::new(seen.after(decision, ledger, now)));
                    return Some(Work::Check(pictures));
                }
            };
        }
    }

    fn take_expired(&self, queue: &mut Queue, now: Instant) -> Vec<Queued> {
        let late = |queued: &Queued| queued.recipe.start_by.is_some_and(|start_by| start_by <= now);
        if queue.waiting.iter().any(late) { self.take(queue, late) } else { Vec::new() }
    }

    /// Takes the jobs that are `wanted` out of the queue, in their order.
    fn take(&self, queue: &mut Queue, wanted: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let (taken, left): (VecDeque<_>, VecDeque<_>) = queue.waiting.drain(..).partition(wanted);
        queue.waiting = left;
        self.metrics.set_waiting(queue.waiting.len());
        taken.iter().for_each(|_| self.room.notify_one());
        taken.into()
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

impl Queue {
    /// What waits and runs.
    fn seen(&self, floor: &Floor) -> Seen {
        let queued = self.waiting.iter().map(|queued| (queued.id, queued.waiting(self.calls)));
        Seen {
            waiting: floor.waiting().chain(queued).collect(),
            running: floor.running(self.calls),
            checking: floor.checking(self.calls),
        }
    }

    /// Marks the lane's jobs under way as superseded by the job `by`.
    fn supersede(&mut self, lane: Lane, by: u64) {
        for (_, newest) in self.lanes.iter_mut().filter(|(other, _)| *other == lane) {
            *newest = Some(by);
        }
    }

    /// The lanes whose jobs under way were superseded since the last call, and by which job.
    fn take_superseded(&mut self) -> Vec<(Lane, u64)> {
        self.lanes.iter_mut().filter_map(|(lane, newest)| Some((*lane, newest.take()?))).collect()
    }
}
