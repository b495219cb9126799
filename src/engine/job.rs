//! What the engine is asked for, and what it gives.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Lane, Order, Picture};

/// One image-to-image request. Its pictures are rows of the batch, one a seed.
#[derive(Clone)]
pub struct Job {
    /// The input, sides a multiple of the model's `size_multiple`.
    pub picture: Picture,
    /// The prompt. It is never logged.
    pub prompt: String,
    /// How far from the input, `0..=1`. Raised to `steps / original_steps` where it is lower.
    pub strength: f64,
    /// UNet evaluations, at least 1; every one of them runs, whatever the strength.
    pub steps: u32,
    /// Guidance scale, clamped to `0..=20`.
    pub guidance_scale: f64,
    /// One seed a picture, at least one. Only 32 bits of each count, as in torch's CPU generator.
    pub seeds: Vec<u64>,
    /// How the encoder's posterior is read.
    pub posterior: Posterior,
    /// Give up with [`super::EngineError::StartTimeout`] unless the work has started by then, and refuse it at once with
    /// [`super::EngineError::TooLate`] where measured costs say that it cannot.
    pub start_by: Option<Instant>,
    /// Whose turn it is: one pen or one caller. Lanes share the device fairly.
    pub lane: Lane,
    /// How the job stands to the older ones of its lane.
    pub order: Order,
    /// Whether its pictures are checked before they are shown.
    pub safety: SafetyCheck,
}

/// Whether a picture goes past the model's safety checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SafetyCheck {
    /// It is shown as it was painted.
    #[default]
    Skipped,
    /// It is black where the checker flags it. Refused where the model has no checker.
    Wanted,
}

/// How latents are read out of the encoder's posterior.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Posterior {
    /// Mean plus noise, as diffusers does.
    #[default]
    Sample,
    /// The mean: steadier from frame to frame. The noise is drawn and dropped, so that later noise is the same.
    Mode,
}

/// A finished job.
#[derive(Debug, Clone)]
pub struct Done {
    /// One picture a seed, in their order, of the size of the input.
    pub pictures: Vec<Picture>,
    /// One flag a picture: the checker flagged it, and it is black. All false where no check was wanted.
    pub flagged: Vec<bool>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where a job's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for the device.
    pub queued: Duration,
    /// Text and picture encoding.
    pub encode: Duration,
    /// All UNet steps.
    pub steps: Duration,
    /// Picture decoding.
    pub decode: Duration,
    /// The safety check; zero where none was wanted.
    pub check: Duration,
}

impl Timings {
    /// Device time: encode, steps, decode and check.
    #[must_use]
    pub fn inference(&self) -> Duration {
        self.encode + self.steps + self.decode + self.check
    }
}
