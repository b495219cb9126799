//! What a fake backend is asked to be.

use std::time::Duration;

use crate::engine::{ModelFacts, ScheduleFacts, Timesteps};

/// A method of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FakePart {
    /// `embed`.
    Embed,
    /// `encode`.
    Encode,
    /// `step`.
    Step,
    /// `decode`.
    Decode,
    /// `judge`.
    Check,
}

/// What goes wrong in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FakeFault {
    /// The call fails as a runtime's error does.
    Fail,
    /// The call fails as half-precision overflow does, for all of its rows.
    NotFinite,
    /// One row of the call fails as half-precision overflow does: its place in the call.
    NotFiniteRow(usize),
    /// The call fails for want of device memory.
    OutOfMemory,
    /// The call panics.
    Panic,
}

/// What a fake backend is asked to be.
#[derive(Debug, Clone)]
pub struct FakeSettings {
    /// The facts it states. It keeps to their sizes.
    pub facts: ModelFacts,
    /// How long `embed` takes, whatever the rows.
    pub embed: Duration,
    /// How long `encode` takes.
    pub encode: Duration,
    /// How long `step` takes.
    pub step: Duration,
    /// How long `decode` takes.
    pub decode: Duration,
    /// How long `judge` takes.
    pub check: Duration,
    /// Which pictures `judge` flags: those whose mean level is above this one. 255 flags none.
    pub flags_above: u8,
}

impl Default for FakeSettings {
    /// A model of Stable Diffusion 1.5's shape that takes no time and has no safety checker.
    fn default() -> Self {
        let facts = ModelFacts {
            name: "fake".to_owned(),
            size_multiple: 64,
            guidance_width: Some(256),
            prompt_tokens: 77,
            latent_channels: 4,
            latent_factor: 8,
            max_batch: 8,
            timesteps: Timesteps::PerRow,
            schedule: ScheduleFacts::default(),
            safety_checker: false,
            device: "none".to_owned(),
        };
        let none = Duration::ZERO;
        Self { facts, embed: none, encode: none, step: none, decode: none, check: none, flags_above: 255 }
    }
}

impl FakeSettings {
    /// The same with a safety checker, which flags pictures whose mean level is above this one; 255 flags none.
    #[must_use]
    pub fn with_checker(mut self, flags_above: u8) -> Self {
        self.facts.safety_checker = true;
        Self { flags_above, ..self }
    }

    /// How long a call of `part` takes.
    pub(super) fn cost(&self, part: FakePart) -> Duration {
        match part {
            FakePart::Embed => self.embed,
            FakePart::Encode => self.encode,
            FakePart::Step => self.step,
            FakePart::Decode => self.decode,
            FakePart::Check => self.check,
        }
    }
}
