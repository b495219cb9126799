//! Jobs that wait, and the door they come through. Shared by the callers and the engine's thread; the lock is only ever held
//! for bookkeeping.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use super::desk::Desk;
use super::door::Door;
use super::fleet::{Common, Fleet, next_id};
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
    /// UNet calls that have begun.
    calls: u64,
    /// The turn that all lanes have come to.
    turn: u64,
    /// Lanes with rows under way, and the newest job of each that takes the place of older ones.
    lanes: Vec<(Lane, Option<u64>)>,
    /// The device as it will be after the call that is being made, for forecasts; `None` before the first.
    desk: Option<Arc<Desk>>,
}

/// What callers and the thread of a device share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    bell: Condvar,
    limit: usize,
    model: OnceLock<Model>,
    state: watch::Sender<EngineState>,
    common: Common,
    fleet: Weak<Fleet>,
}

/// A place in the queue.
pub(super) struct Place {
    pub(super) id: u64,
    pub(super) result: oneshot::Receiver<Result<Done, EngineError>>,
}

impl Shared {
    /// An empty queue for `limit` jobs, in front of a model that is yet to be loaded.
    pub(super) fn new(limit: usize, common: Common, fleet: Weak<Fleet>) -> Self {
        Self {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                door: Door::Loading,
                calls: 0,
                turn: 0,
                lanes: Vec::new(),
                desk: None,
            }),
            bell: Condvar::new(),
            limit,
            model: OnceLock::new(),
            state: watch::Sender::new(EngineState::Loading { progress: None }),
            common,
            fleet,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change under the lock is complete before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn model(&self) -> Option<&Model> {
        self.model.get()
    }

    /// Where in its life the device is.
    pub(super) fn state(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// Says where in its life the device is now.
    pub(super) fn set_state(&self, state: EngineState) {
        self.state.send_replace(state);
        if let Some(fleet) = self.fleet.upgrade() {
            fleet.heard();
        }
    }

    /// Waits until the device's thread is over.
    pub(super) async fn ended(&self) {
        let over = |state: &EngineState| matches!(state, EngineState::Stopped | EngineState::Failed(_));
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.state.subscribe().wait_for(over).await;
    }

    pub(super) fn metrics(&self) -> &EngineMetrics {
        &self.common.metrics
    }

    /// UNet calls that have begun.
    pub(super) fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Queues a job; where there is no room it stays with the caller.
    pub(super) fn enter(&self, job: &mut Option<Recipe>) -> Result<Place, EngineError> {
        let now = Instant::now();
        if let Some(recipe) = job {
            self.check_deadline(recipe, now)?;
        }
        let (answer, result) = Answer::channel(self.metrics());
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
        let (id, calls, turn) = (next_id(&self.common.next_id), queue.calls, queue.turn);
        if recipe.order == Order::Supersedes {
            queue.supersede(recipe.lane, id);
        }
        queue.waiting.push_back(Queued { id, recipe, since: now, calls, placed: 0, turn, failures: 0, answer });
        self.metrics().more_wait(1);
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

    /// When a job would be done that came now, if that is known, and how many rows are to be done before; `None` where nobody is
    /// let in.
    pub(super) fn outlook(&self, recipe: &Recipe, now: Instant) -> Option<(Option<Instant>, usize)> {
        let queue = self.lock();
        queue.door.check().ok()?;
        let waiting: Vec<Waiting> = queue.waiting.iter().map(|queued| queued.waiting(queue.calls)).collect();
        let desk = queue.desk.clone();
        drop(queue);
        let rows = waiting.iter().map(|job| job.rows).sum();
        let Some(desk) = desk else { return Some((None, rows)) };
        let mut desk = Desk::clone(&desk);
        let rows = rows + desk.rows();
        desk.pass(now);
        waiting.into_iter().for_each(|job| desk.came(job, 0));
        Some((desk.finish_of(recipe.waiting(now)), rows))
    }

    /// Ends the jobs of a lane that are older than the job `by`, which another device has.
    pub(super) fn supersede(&self, lane: Lane, by: u64) {
        let mut queue = self.lock();
        let superseded = self.take(&mut queue, |queued| queued.recipe.lane == lane && queued.id < by);
        queue.supersede(lane, by);
        drop(queue);
        superseded.into_iter().for_each(|queued| queued.answer.give(Err(EngineError::Superseded)));
        self.bell.notify_one();
    }

    /// Takes a job of a device that failed. It was let in there, so there is room for it here.
    pub(super) fn take_over(&self, queued: Box<Queued>) -> Result<(), Box<Queued>> {
        let mut queue = self.lock();
        if queue.door.check().is_err() {
            return Err(queued);
        }
        let (calls, turn) = (queue.calls, queue.turn);
        // The oldest first: it has waited longest.
        let at = queue.waiting.partition_point(|other| other.id < queued.id);
        queue.waiting.insert(at, Queued { calls, turn, placed: 0, ..*queued });
        self.metrics().more_wait(1);
        self.metrics().ran_again();
        drop(queue);
        self.bell.notify_one();
        Ok(())
    }

    /// Puts jobs back that were under way when the device failed.
    pub(super) fn put_back(&self, jobs: Vec<Queued>) {
        let mut queue = self.lock();
        self.metrics().more_wait(jobs.len() as i64);
        jobs.into_iter().rev().for_each(|queued| queue.waiting.push_front(queued));
    }

    /// Lets jobs whose device failed run elsewhere, or gives them back.
    pub(super) fn run_elsewhere(&self, jobs: Vec<Queued>) -> Vec<Queued> {
        let Some(fleet) = self.fleet.upgrade() else { return jobs };
        jobs.into_iter().filter_map(|queued| Some(*fleet.again(self, Box::new(queued)).err()?)).collect()
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
        drop(queue);
        if let Some(queued) = left {
            self.metrics().more_wait(-1);
            self.common.room.notify_one();
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
        self.metrics().more_wait(-(taken.len() as i64));
        taken.iter().for_each(|_| self.common.room.notify_one());
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
            self.set_state(EngineState::Ready);
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
        self.common.room.notify_waiters();
    }

    /// Shuts the door for good. The jobs that wait go to another device, or are refused.
    pub(super) fn fail(&self, cause: OpenError) {
        let cause = Arc::new(cause);
        let mut queue = self.lock();
        queue.door = Door::Failed(Arc::clone(&cause));
        let waiting = self.take(&mut queue, |_| true);
        drop(queue);
        self.common.room.notify_waiters();
        let refused = self.run_elsewhere(waiting);
        self.set_state(EngineState::Failed(Arc::clone(&cause)));
        for queued in refused {
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
