//! The engine as the other rooms see it.

use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use super::fleet::Fleet;
use super::metrics::Outcome;
use super::recipe::Recipe;
use super::{
    EngineError, EngineMetrics, EngineSettings, EngineState, Job, LoadProgress, ModelFacts, OpenError, Opened, Ticket,
    batcher,
};

/// An image engine: one model on one device or on several, each run by a thread of its own. Clones are handles of the same
/// engine.
///
/// When the last handle goes, the engine closes: jobs that were accepted are still finished, as long as their tickets live.
///
/// ```
/// # tokio_test(async {
/// use falgate::engine::{Engine, EngineSettings, FakeBackend, FakeSettings, Job, Lane, Order, Picture, Posterior,
///     SafetyCheck};
///
/// let engine = Engine::start(EngineSettings::default(), |_| Ok(FakeBackend::open(FakeSettings::default()).0));
/// let facts = engine.ready().await?;
/// let side = facts.size_multiple;
/// let ticket = engine.submit(Job {
///     picture: Picture::new(side, side, vec![128; (side * side * 3) as usize]).expect("right length"),
///     prompt: "snowy mountains".to_owned(),
///     strength: 0.5,
///     steps: 4,
///     guidance_scale: 8.0,
///     seeds: vec![1, 2],
///     posterior: Posterior::Sample,
///     start_by: None,
///     lane: Lane::new(),
///     order: Order::InTurn,
///     safety: SafetyCheck::Skipped,
/// })?;
/// assert_eq!(ticket.await?.pictures.len(), 2);
/// # Ok::<(), falgate::engine::EngineError>(())
/// # }).unwrap();
/// # fn tokio_test<T>(future: impl Future<Output = T>) -> T {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
/// # }
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

/// Opens a model on its device, on the thread that will run it.
pub type Opener = Box<dyn FnOnce(&LoadProgress) -> Result<Opened, OpenError> + Send>;

struct Handle {
    fleet: Arc<Fleet>,
    max_pictures: usize,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.fleet.close();
    }
}

impl Engine {
    /// Starts an engine: its thread calls `open`, warms the model up, and serves. This returns at once; watch
    /// [`Engine::state`] or wait for [`Engine::ready`].
    pub fn start<F>(settings: EngineSettings, open: F) -> Self
    where
        F: FnOnce(&LoadProgress) -> Result<Opened, OpenError> + Send + 'static,
    {
        Self::start_measured(settings, EngineMetrics::unregistered(), open)
    }

    /// Starts an engine that counts into `metrics`.
    pub fn start_measured<F>(settings: EngineSettings, metrics: EngineMetrics, open: F) -> Self
    where
        F: FnOnce(&LoadProgress) -> Result<Opened, OpenError> + Send + 'static,
    {
        Self::start_on(settings, metrics, vec![Box::new(open)])
    }

    /// Starts an engine on several devices: each of `openers` opens the same model on one of them.
    ///
    /// It serves once all are ready; if one cannot open its model, none serves. A job goes to the device on which it is done soonest, by
    /// what calls have cost there. A device that fails while it serves, and does not pass a warm-up after that, is taken out: its jobs run
    /// again, from their beginning, on another one, and fail only if that fails under them too.
    pub fn start_on(settings: EngineSettings, metrics: EngineMetrics, openers: Vec<Opener>) -> Self {
        let fleet = Fleet::new(openers.len(), settings.queue.get(), metrics);
        let max_pictures = settings.max_pictures.get();
        let settings = Arc::new(settings);
        for (at, (member, open)) in fleet.members().iter().zip(openers).enumerate() {
            let (theirs, settings) = (Arc::clone(member), Arc::clone(&settings));
            // Whoever watches the state sees the thread's last word, also when all handles have gone.
            let whole = Arc::clone(&fleet);
            let name = if at == 0 { "engine".to_owned() } else { format!("engine-{at}") };
            let spawned = thread::Builder::new().name(name).spawn(move || {
                batcher::serve(&theirs, &settings, open);
                drop(whole);
            });
            if let Err(cause) = spawned {
                member.fail(OpenError::Thread { cause });
            }
        }
        Self(Arc::new(Handle { fleet, max_pictures }))
    }

    /// Queues a job.
    ///
    /// # Errors
    /// [`EngineError::Unfit`] for a job that the model cannot run, [`EngineError::Full`] when too many wait, and
    /// [`EngineError::Loading`], [`EngineError::Closed`] or [`EngineError::Failed`] when there is no model to run it.
    pub fn submit(&self, job: Job) -> Result<Ticket, EngineError> {
        let submitted = self.try_submit(job);
        if let Err(refusal) = &submitted {
            self.0.fleet.metrics().ended(Outcome::from(refusal));
        }
        submitted
    }

    /// Queues a job, and waits for room where there is none, at most for `wait`. Whoever calls this must be bounded by
    /// something else than the queue. Dropping the future gives up.
    ///
    /// # Errors
    /// As [`Engine::submit`], with [`EngineError::Full`] when there was no room in all that time.
    pub async fn submit_within(&self, job: Job, wait: Duration) -> Result<Ticket, EngineError> {
        let submitted = self.wait_for_room(job, wait).await;
        if let Err(refusal) = &submitted {
            self.0.fleet.metrics().ended(Outcome::from(refusal));
        }
        submitted
    }

    async fn wait_for_room(&self, job: Job, wait: Duration) -> Result<Ticket, EngineError> {
        let fleet = &self.0.fleet;
        let mut recipe = Some(self.recipe(job)?);
        let until = tokio::time::Instant::now() + wait;
        loop {
            let mut room = pin!(fleet.room().notified());
            room.as_mut().enable();
            match fleet.enter(&mut recipe) {
                Ok(place) => return Ok(Ticket::new(Arc::clone(fleet), place)),
                Err(full @ EngineError::Full { .. }) => {
                    tokio::time::timeout_at(until, room).await.map_err(|_elapsed| full)?;
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    fn try_submit(&self, job: Job) -> Result<Ticket, EngineError> {
        let fleet = &self.0.fleet;
        let place = fleet.enter(&mut Some(self.recipe(job)?))?;
        Ok(Ticket::new(Arc::clone(fleet), place))
    }

    fn recipe(&self, job: Job) -> Result<Recipe, EngineError> {
        let fleet = &self.0.fleet;
        fleet.check_door()?;
        let model = fleet.model().ok_or(EngineError::Loading)?;
        Recipe::new(job, &model.facts, &model.schedule, self.0.max_pictures)
    }

    /// What the model is; `None` until it is loaded.
    #[must_use]
    pub fn facts(&self) -> Option<Arc<ModelFacts>> {
        self.0.fleet.model().map(|model| Arc::clone(&model.facts))
    }

    /// Where in its life the engine is, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.0.fleet.state().subscribe()
    }

    /// Waits until the engine takes jobs.
    ///
    /// # Errors
    /// [`EngineError::Failed`] if it has no model to serve with, [`EngineError::Closed`] if it was closed.
    pub async fn ready(&self) -> Result<Arc<ModelFacts>, EngineError> {
        let mut state = self.state();
        loop {
            match &*state.borrow_and_update() {
                EngineState::Loading { .. } => {}
                EngineState::Ready => return self.facts().ok_or(EngineError::Closed),
                EngineState::Failed(cause) => return Err(EngineError::Failed { cause: Arc::clone(cause) }),
                EngineState::Stopped => return Err(EngineError::Closed),
            }
            state.changed().await.map_err(|_| EngineError::Closed)?;
        }
    }

    /// Stops taking jobs. Accepted ones are finished, then the model is unloaded and the thread ends.
    pub fn close(&self) {
        self.0.fleet.close();
    }

    /// Waits until the threads of the engine have ended, after [`Engine::close`] or a failure. A process must not exit earlier, or
    /// the runtime is torn down under a running call.
    pub async fn ended(&self) {
        for member in self.0.fleet.members() {
            member.ended().await;
        }
        let over = |state: &EngineState| matches!(state, EngineState::Stopped | EngineState::Failed(_));
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.state().wait_for(over).await;
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state", &*self.0.fleet.state().borrow()).finish_non_exhaustive()
    }
}
