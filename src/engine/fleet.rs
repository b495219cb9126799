//! The devices of an engine: which of them a job goes to, and where it goes when its device fails.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::queue::{Model, Place, Shared};
use super::queued::Queued;
use super::recipe::Recipe;
use super::{EngineError, EngineMetrics, EngineState, Order};

/// The devices of an engine, a queue and a thread each, all with the same model.
pub(super) struct Fleet {
    members: Vec<Arc<Shared>>,
    state: watch::Sender<EngineState>,
    /// Whether all devices have opened their model; held while the state is worked out.
    opened: Mutex<bool>,
    common: Common,
}

/// What devices have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) metrics: EngineMetrics,
    /// Told when there may be room at some device.
    pub(super) room: Arc<Notify>,
    /// Numbers of jobs, in order of arrival.
    pub(super) next_id: Arc<AtomicU64>,
}

impl Fleet {
    /// So many devices with an empty queue for `limit` jobs each.
    pub(super) fn new(devices: usize, limit: usize, metrics: EngineMetrics) -> Arc<Self> {
        let common = Common { metrics, room: Arc::new(Notify::new()), next_id: Arc::new(AtomicU64::new(0)) };
        Arc::new_cyclic(|fleet| Self {
            members: (0..devices).map(|_| Arc::new(Shared::new(limit, common.clone(), fleet.clone()))).collect(),
            state: watch::Sender::new(EngineState::Loading { progress: None }),
            opened: Mutex::new(false),
            common,
        })
    }

    pub(super) fn members(&self) -> &[Arc<Shared>] {
        &self.members
    }

    pub(super) fn state(&self) -> &watch::Sender<EngineState> {
        &self.state
    }

    pub(super) fn metrics(&self) -> &EngineMetrics {
        &self.common.metrics
    }

    pub(super) fn room(&self) -> &Notify {
        &self.common.room
    }

    /// The model, which is the same on all devices.
    pub(super) fn model(&self) -> Option<&Model> {
        self.members.iter().find_map(|member| member.model())
    }

    /// Says whether a job would be let in.
    pub(super) fn check_door(&self) -> Result<(), EngineError> {
        let state = self.state.borrow().clone();
        match state {
            // As long as one device serves, some door is open.
            EngineState::Ready => Ok(()),
            EngineState::Loading { .. } => Err(EngineError::Loading),
            EngineState::Failed(cause) => Err(EngineError::Failed { cause }),
            EngineState::Stopped => Err(EngineError::Closed),
        }
    }

    /// Queues a job where it is done soonest; where there is no room, at the next device. If there is none at all, it stays
    /// with the caller.
    pub(super) fn enter(&self, job: &mut Option<Recipe>) -> Result<Place, EngineError> {
        let [only] = &*self.members else { return self.enter_somewhere(job) };
        only.enter(job)
    }

    fn enter_somewhere(&self, job: &mut Option<Recipe>) -> Result<Place, EngineError> {
        self.check_door()?;
        let Some(recipe) = job.as_ref() else { return Err(EngineError::Closed) };
        let (lane, supersedes) = (recipe.lane, recipe.order == Order::Supersedes);
        let mut refusal = EngineError::Closed;
        for at in self.soonest(recipe, None) {
            match self.members[at].enter(job) {
                Ok(place) => {
                    let others = self.members.iter().enumerate().filter(|(other, _)| supersedes && *other != at);
                    others.for_each(|(_, member)| member.supersede(lane, place.id));
                    return Ok(place);
                }
                // The one that would have it done soonest knows best how long it takes.
                Err(other) if matches!(refusal, EngineError::Closed) => refusal = other,
                Err(_) => {}
            }
        }
        Err(refusal)
    }

    /// Lets a job of a failed device run on another one, once. Gives it back where there is none.
    pub(super) fn again(&self, from: &Shared, queued: Box<Queued>) -> Result<(), Box<Queued>> {
        if queued.failures > 1 {
            return Err(queued);
        }
        let mut queued = queued;
        for at in self.soonest(&queued.recipe, Some(from)) {
            match self.members[at].take_over(queued) {
                Ok(()) => return Ok(()),
                Err(back) => queued = back,
            }
        }
        Err(queued)
    }

    /// The devices that take jobs, but for one: first the one on which the job is done soonest as far as costs are known, or on
    /// which least is to be done.
    fn soonest(&self, recipe: &Recipe, but: Option<&Shared>) -> Vec<usize> {
        let now = Instant::now();
        let open =
            self.members.iter().enumerate().filter(|(_, member)| !but.is_some_and(|but| std::ptr::eq(but, &***member)));
        let mut ranks: Vec<_> = open.filter_map(|(at, member)| Some((member.outlook(recipe, now)?, at))).collect();
        let all_known = ranks.iter().all(|((finish, _), _)| finish.is_some());
        ranks.sort_by_key(|((finish, load), at)| (finish.filter(|_| all_known), *load, *at));
        ranks.into_iter().map(|(_, at)| at).collect()
    }

    /// Whether a job still waits for a device.
    pub(super) fn holds(&self, id: u64) -> bool {
        self.members.iter().any(|member| member.holds(id))
    }

    /// Takes a job that nobody waits for out of its queue, if it is still in one.
    pub(super) fn leave(&self, id: u64) {
        self.members.iter().for_each(|member| member.leave(id));
    }

    /// Shuts all doors. Jobs that wait are still run.
    pub(super) fn close(&self) {
        self.members.iter().for_each(|member| member.close());
    }

    /// The state of a device has changed: works out what that means for the engine.
    pub(super) fn heard(&self) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let states: Vec<EngineState> = self.members.iter().map(|member| member.state()).collect();
        let state = together(&states, *opened);
        *opened |= matches!(state, EngineState::Ready);
        let is_failure = matches!(state, EngineState::Failed(_));
        self.state.send_replace(state);
        drop(opened);
        if is_failure {
            // A device that cannot be had at the start is no device less, but no start.
            self.close();
            self.common.room.notify_waiters();
        }
    }
}

/// The state of an engine whose devices are in these states; `opened` once all have been ready.
fn together(states: &[EngineState], opened: bool) -> EngineState {
    let find = |wanted: fn(&EngineState) -> bool| states.iter().find(|state| wanted(state)).cloned();
    let ready = find(|state| matches!(state, EngineState::Ready));
    let failed = find(|state| matches!(state, EngineState::Failed(_)));
    let told = find(|state| matches!(state, EngineState::Loading { progress: Some(_) }));
    let loading = told.or_else(|| find(|state| matches!(state, EngineState::Loading { .. })));
    let stopped = find(|state| matches!(state, EngineState::Stopped));
    let order = if opened { [ready, stopped, failed, loading] } else { [failed, loading, stopped, ready] };
    order.into_iter().flatten().next().unwrap_or(EngineState::Stopped)
}

/// The number of the next job.
pub(super) fn next_id(numbers: &AtomicU64) -> u64 {
    numbers.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::OpenError;

    fn shown(states: &[EngineState], opened: bool) -> String {
        match together(states, opened) {
            EngineState::Loading { .. } => "loading",
            EngineState::Ready => "ready",
            EngineState::Failed(_) => "failed",
            EngineState::Stopped => "stopped",
        }
        .to_owned()
    }

    #[test]
    fn an_engine_is_ready_with_all_its_devices_and_stays_so_with_one() {
        let (loading, ready, stopped) =
            (EngineState::Loading { progress: None }, EngineState::Ready, EngineState::Stopped);
        let failed = EngineState::Failed(Arc::new(OpenError::CalledOff));
        let both = |one: &EngineState, other: &EngineState| [one.clone(), other.clone()];
        assert_eq!(shown(&both(&ready, &loading), false), "loading");
        assert_eq!(shown(&both(&ready, &failed), false), "failed", "a device that cannot be had is no start");
        assert_eq!(shown(&both(&ready, &ready), false), "ready");
        assert_eq!(shown(&both(&failed, &ready), true), "ready", "one that is lost later is taken out");
        assert_eq!(shown(&both(&failed, &failed), true), "failed");
        assert_eq!(shown(&both(&stopped, &failed), true), "stopped");
    }
}
