//! A synchronous run (protocol spec 3): input, picture, engine, answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;

use super::answer::{Delivery, Place, json};
use super::deadline::start_by;
use super::input::read_input;
use super::load::{Loader, Patience};
use super::safety::Safety;
use super::waiting::{Guest, Place as Seat, Wait};
use super::{Host, HostError};
use crate::engine::{Done, EngineError, EngineState, Job, Lane, ModelFacts, Order, Picture, SafetyCheck, Ticket};
use crate::guard::subject_of;
use crate::telemetry::WorkNote;
use crate::wire::{Body, ImageSource, LcmInput, LcmOutput, PublicOrigin, RunTimings, Seed};

/// A run's answer, and how long it waited for the device.
pub(super) struct Ran {
    pub(super) response: Response<Body>,
    pub(super) waited: Duration,
}

impl Host {
    /// Runs an app and waits for its output. Dropping the future cancels the job at its next step.
    pub(super) async fn run(&self, request: Request<Body>) -> Result<Ran, HostError> {
        let arrived = Instant::now();
        let start_by = start_by(request.headers(), arrived)?;
        let guest = Guest::of(&subject_of(&request));
        let lane = Lane::of(&guest);
        let _place = self.place(guest, (arrived, start_by)).await?;
        let busy = |_| HostError::Busy { limit: self.settings.runs_at_once.get() };
        let _slot = self.runs.try_acquire().map_err(busy)?;
        let headers = request.headers().clone();
        let origin = self.origin(&request);
        let limit = self.settings.max_body_bytes.get();
        let (mut input, memory) = read_input(request, limit, &self.bodies).await?;
        let facts = self.facts()?;
        let safety = self.safety(&input, &facts)?;

        let preparing = Instant::now();
        let origins: Vec<&PublicOrigin> = origin.iter().chain(&self.public).collect();
        let loader = Loader {
            settings: &self.settings.pictures,
            pool: &self.pool,
            fetcher: &self.fetcher,
            storage: &self.storage,
            origins: &origins,
            patience: Patience::Refuses,
        };
        let loaded = before(start_by, loader.load(take_image(&mut input), facts.size_multiple)).await??;
        drop(memory);
        let decode = preparing.elapsed();

        let seed = seed_of(&input);
        let mut job = self.job(&mut input, loaded.picture, &seed);
        job.start_by = start_by.map(Instant::into_std);
        // Every one of a caller's requests counts, but they take turns with other callers'.
        job.lane = lane;
        job.safety = safety.job();
        let ticket = self.engine.submit(job)?;
        let done = drawn(ticket, start_by).await?;

        let encoding = Instant::now();
        let place = match (input.sync_mode, &origin) {
            (true, _) => Place::Inline,
            (false, Some(origin)) => Place::Stored { storage: &self.storage, origin, headers: &headers },
            (false, None) => return Err(HostError::NoOrigin),
        };
        let pictures = &self.settings.pictures;
        let format = input.format.unwrap_or(pictures.format);
        let delivery = Delivery { settings: pictures, pool: &self.pool, size: loaded.sizes.output, format, place };
        let images = delivery.deliver(done.pictures).await?;
        let waited = done.timings.queued;
        let work = WorkNote { pictures: input.num_images, device: done.timings.inference() };
        let output = LcmOutput {
            images,
            timings: RunTimings {
                inference: done.timings.inference().as_secs_f64(),
                decode: decode.as_secs_f64(),
                queue: waited.as_secs_f64(),
                encode: encoding.elapsed().as_secs_f64(),
                total: arrived.elapsed().as_secs_f64(),
            },
            seed: seed.shown().clone(),
            num_inference_steps: input.num_inference_steps,
            request_id: input.request_id,
            nsfw_content_detected: done.flagged.clone(),
            has_nsfw_concepts: done.flagged,
            warning: None,
        };
        let mut response = json(&output);
        safety.warn(response.headers_mut());
        response.extensions_mut().insert(work);
        Ok(Ran { response, waited })
    }

    /// Waits a while for a place at the engine, where callers have places. The body is not read meanwhile.
    async fn place(
        &self,
        guest: Guest,
        (arrived, start_by): (Instant, Option<Instant>),
    ) -> Result<Option<Seat>, HostError> {
        let Some(room) = &self.waiting else { return Ok(None) };
        let held = arrived + self.settings.waiting_room.hold();
        let until = start_by.map_or(held, |start_by| start_by.min(held));
        let wait = Wait { guest, until: Some(until), drain: self.drain.clone() };
        Ok(Some(room.enter(wait, |_| ()).await?))
    }

    /// The engine's work for an input whose picture was loaded. The prompt moves out of the input.
    pub(super) fn job(&self, input: &mut LcmInput, picture: Picture, seed: &Seed) -> Job {
        Job {
            picture,
            prompt: std::mem::take(&mut input.prompt),
            strength: input.strength,
            steps: input.num_inference_steps,
            guidance_scale: input.guidance_scale,
            seeds: (0..u64::from(input.num_images)).map(|row| seed.bits().wrapping_add(row)).collect(),
            posterior: self.posterior,
            start_by: None,
            lane: Lane::new(),
            order: Order::InTurn,
            safety: SafetyCheck::Skipped,
        }
    }

    /// What an input gets of the safety checks that it asks for.
    pub(super) const fn safety(&self, input: &LcmInput, facts: &ModelFacts) -> Result<Safety, HostError> {
        Safety::of(input, facts, self.settings.without_safety_checker)
    }

    /// What the model is, or why there is none.
    pub(super) fn facts(&self) -> Result<Arc<ModelFacts>, EngineError> {
        match &*self.engine.state().borrow() {
            EngineState::Failed(cause) => Err(EngineError::Failed { cause: Arc::clone(cause) }),
            EngineState::Stopped => Err(EngineError::Closed),
            EngineState::Loading { .. } | EngineState::Ready => self.engine.facts().ok_or(EngineError::Loading),
        }
    }
}

/// Takes the picture's source out of an input.
pub(super) fn take_image(input: &mut LcmInput) -> ImageSource {
    std::mem::replace(&mut input.image, ImageSource::Bytes(Bytes::new()))
}

/// The seed of the first picture: the caller's, or a random one.
pub(super) fn seed_of(input: &LcmInput) -> Seed {
    input.seed.clone().unwrap_or_else(|| Seed::from(u64::from(rand::random::<u32>())))
}

/// Waits for a job, and gives up at `start_by` unless it has begun by then. The engine checks the same deadline, but only
/// between two calls of the device, which may be long.
async fn drawn(mut ticket: Ticket, start_by: Option<Instant>) -> Result<Done, EngineError> {
    let Some(start_by) = start_by else { return ticket.await };
    match tokio::time::timeout_at(start_by, &mut ticket).await {
        Ok(done) => done,
        Err(_elapsed) if ticket.is_waiting() => Err(EngineError::StartTimeout),
        Err(_elapsed) => ticket.await,
    }
}

/// Waits for `work`, but no longer than until `deadline`.
async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, EngineError> {
    match deadline {
        None => Ok(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.map_err(|_elapsed| EngineError::StartTimeout),
    }
}
