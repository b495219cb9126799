//! A job worked out in numbers, on the caller's side: what does not fit the model is refused before it is queued.

use std::sync::Arc;
use std::time::Instant;

use super::guidance::guidance_embedding;
use super::plan::Waiting;
use super::{EngineError, Job, Lane, ModelFacts, Order, Picture, PlannedStep, Posterior, SafetyCheck, Schedule};

/// A job that the model can run, with everything but tensors worked out.
pub(super) struct Recipe {
    pub(super) picture: Arc<Picture>,
    pub(super) prompt: String,
    pub(super) steps: Arc<[PlannedStep]>,
    pub(super) guidance: Arc<[f32]>,
    pub(super) seeds: Vec<u64>,
    pub(super) posterior: Posterior,
    pub(super) lane: Lane,
    pub(super) order: Order,
    pub(super) start_by: Option<Instant>,
    pub(super) safety: SafetyCheck,
}

impl Recipe {
    /// Works out `job` for a model. `max_pictures` bounds its seeds.
    pub(super) fn new(
        job: Job,
        facts: &ModelFacts,
        schedule: &Schedule,
        max_pictures: usize,
    ) -> Result<Self, EngineError> {
        fault(&job, facts, max_pictures).map_or(Ok(()), |what| Err(EngineError::Unfit { what }))?;
        let unfit = |error: super::ScheduleError| EngineError::Unfit { what: error.to_string() };
        let strength = schedule.raised_strength(job.steps, job.strength).map_err(unfit)?;
        let steps = schedule.plan(job.steps, strength).map_err(unfit)?;
        let guidance = facts.guidance_width.map(|width| guidance_embedding(job.guidance_scale, width));
        Ok(Self {
            picture: Arc::new(job.picture),
            prompt: job.prompt,
            steps: steps.into(),
            guidance: guidance.unwrap_or_default().into(),
            seeds: job.seeds,
            posterior: job.posterior,
            lane: job.lane,
            order: job.order,
            start_by: job.start_by,
            safety: job.safety,
        })
    }

    /// What a decision needs to know of the job while none of its rows has begun.
    pub(super) fn waiting(&self, since: Instant) -> Waiting {
        Waiting {
            lane: self.lane,
            order: self.order,
            size: self.size(),
            rows: self.seeds.len(),
            steps: self.steps.len(),
            since,
            start_by: self.start_by,
            waited: 0,
            placed: 0,
            turn: 0,
            begun: false,
            safety: self.safety,
        }
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.picture.width(), self.picture.height())
    }
}

/// What of a job does not fit the model, apart from its schedule.
fn fault(job: &Job, facts: &ModelFacts, max_pictures: usize) -> Option<String> {
    let (width, height, multiple) = (job.picture.width(), job.picture.height(), facts.size_multiple);
    if !width.is_multiple_of(multiple) || !height.is_multiple_of(multiple) {
        return Some(format!("picture is {width}x{height}, but both sides must be multiples of {multiple}"));
    }
    if !job.guidance_scale.is_finite() {
        return Some(format!("guidance scale is {}, but must be a number", job.guidance_scale));
    }
    if job.safety == SafetyCheck::Wanted && !facts.safety_checker {
        return Some("a safety check was asked for, and the model has no safety checker".to_owned());
    }
    let pictures = job.seeds.len();
    if pictures == 0 {
        return Some("no seed was given, and there is one picture a seed".to_owned());
    }
    (pictures > max_pictures)
        .then(|| format!("{pictures} pictures were asked for, but one job may have at most {max_pictures}"))
}
