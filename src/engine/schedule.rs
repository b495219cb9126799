//! The schedule of a latent consistency model: which timesteps run, and the linear step that follows each.
//!
//! Everything is evaluated in double precision from the numbers of the model's scheduler configuration. The timestep rule is
//! that of diffusers' LCM scheduler to the last rounding; the weights differ from its single-precision tables by less than
//! one part in a million.

use super::{Prediction, ScheduleFacts};

/// Standard deviation of the data that consistency models are built for (`sigma_data`), squared.
const SIGMA_DATA_SQUARED: f64 = 0.25;

/// Why a schedule does not exist.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Nothing would run.
    #[error("steps must be at least 1")]
    NoSteps,
    /// The strength leaves fewer steps of the distilled schedule than are asked for.
    #[error("{steps} steps do not fit a strength of {strength}, which leaves {room}")]
    TooManySteps {
        /// Steps asked for.
        steps: u32,
        /// Strength asked for.
        strength: f64,
        /// Steps that fit.
        room: u32,
    },
    /// A strength that is not between 0 and 1.
    #[error("strength {strength} is not between 0 and 1")]
    Strength {
        /// The strength.
        strength: f64,
    },
    /// The distilled schedule has no step, or more than the training.
    #[error("{original} original steps do not fit {train} training steps")]
    Original {
        /// Steps of the distilled schedule.
        original: u32,
        /// Steps of the training.
        train: u32,
    },
    /// The β are not probabilities in ascending order.
    #[error("betas from {start} to {end} are no noise schedule")]
    Betas {
        /// First β.
        start: f64,
        /// Last β.
        end: f64,
    },
}

/// A model's schedule.
#[derive(Debug, Clone)]
pub struct Schedule {
    facts: ScheduleFacts,
    alphas: Vec<f64>,
}

/// Weights of the clean latents and of the noise at one timestep: √ᾱ and √(1−ᾱ).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// √ᾱ.
    pub clean: f64,
    /// √(1−ᾱ).
    pub noise: f64,
}

/// The boundary scalings, which make the model the identity where there is no noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boundary {
    /// Weight of the noisy latents.
    pub skip: f64,
    /// Weight of the predicted clean latents.
    pub out: f64,
}

/// A linear form of the latents and the UNet's output: `sample · x + output · unet(x)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// Weight of the latents.
    pub sample: f64,
    /// Weight of the UNet's output.
    pub output: f64,
}

impl Linear {
    fn times(self, factor: f64) -> Self {
        Self { sample: factor * self.sample, output: factor * self.output }
    }
}

/// One UNet evaluation and the step after it: `x ← sample · x + output · unet(x) + noise · ε`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedStep {
    /// Training timestep.
    pub timestep: u32,
    /// Weight of the latents.
    pub sample: f32,
    /// Weight of the UNet's output.
    pub output: f32,
    /// Weight of fresh noise; `None` on the last step.
    pub noise: Option<f32>,
}

impl Schedule {
    /// Tabulates ᾱ.
    ///
    /// # Errors
    /// [`ScheduleError::Original`] or [`ScheduleError::Betas`] for numbers that make no schedule.
    pub fn new(facts: &ScheduleFacts) -> Result<Self, ScheduleError> {
        let (original, train) = (facts.original_steps, facts.train_timesteps);
        if original == 0 || original > train {
            return Err(ScheduleError::Original { original, train });
        }
        let (start, end) = (facts.beta_start, facts.beta_end);
        if !(0.0 < start && start <= end && end < 1.0) {
            return Err(ScheduleError::Betas { start, end });
        }
        let (low, high) = (start.sqrt(), end.sqrt());
        let last = f64::from(train.saturating_sub(1).max(1));
        let mut product = 1.0;
        let alphas = (0..train)
            .map(|i| {
                let beta = (low + (high - low) * f64::from(i) / last).powi(2);
                product *= 1.0 - beta;
                product
            })
            .collect();
        Ok(Self { facts: facts.clone(), alphas })
    }

    /// The cumulative products ᾱ, one a training timestep.
    #[must_use]
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas
    }

    /// Steps of the distilled schedule that `strength` leaves.
    fn room(&self, strength: f64) -> u32 {
        // The product truncates in double precision, as the reference does: 0.58 · 50 is 28.
        (f64::from(self.facts.original_steps) * strength) as u32
    }

    /// The timesteps of `steps` evaluations at `strength`, descending.
    ///
    /// # Errors
    /// [`ScheduleError`] if nothing would run, `strength` is not in `0..=1`, or it leaves fewer than `steps` steps.
    pub fn timesteps(&self, steps: u32, strength: f64) -> Result<Vec<u32>, ScheduleError> {
        if steps == 0 {
            return Err(ScheduleError::NoSteps);
        }
        if !(0.0..=1.0).contains(&strength) {
            return Err(ScheduleError::Strength { strength });
        }
        let room = self.room(strength);
        if steps > room {
            return Err(ScheduleError::TooManySteps { steps, strength, room });
        }
        let spacing = self.facts.train_timesteps / self.facts.original_steps;
        // The stride keeps its rounding: `i · room / steps` in integers gives other timesteps for hundreds of pairs.
        let stride = f64::from(room) / f64::from(steps);
        Ok((0..steps).map(|i| (room - (f64::from(i) * stride) as u32) * spacing - 1).collect())
    }

    /// `strength`, raised as far as `steps` need: at least `steps / original_steps`.
    ///
    /// # Errors
    /// [`ScheduleError`] if not even a strength of 1 leaves `steps` steps, or `strength` is not in `0..=1`.
    pub fn raised_strength(&self, steps: u32, strength: f64) -> Result<f64, ScheduleError> {
        if !(0.0..=1.0).contains(&strength) {
            return Err(ScheduleError::Strength { strength });
        }
        let original = self.facts.original_steps;
        if steps > original {
            return Err(ScheduleError::TooManySteps { steps, strength: 1.0, room: original });
        }
        if steps <= self.room(strength) {
            return Ok(strength);
        }
        let mut least = f64::from(steps) / f64::from(original);
        // 50 · (29 / 50) truncates to 28: the next number up does not.
        while self.room(least) < steps {
            least = least.next_up();
        }
        Ok(least)
    }

    /// The weights with which clean latents are noised at `timestep`.
    ///
    /// # Panics
    /// If `timestep` is not below the number of training timesteps.
    #[must_use]
    pub fn mix(&self, timestep: u32) -> Mix {
        let alpha = self.alphas[timestep as usize];
        Mix { clean: alpha.sqrt(), noise: (1.0 - alpha).sqrt() }
    }

    /// The boundary scalings at `timestep`.
    #[must_use]
    pub fn boundary(&self, timestep: u32) -> Boundary {
        let scaled = f64::from(timestep) * self.facts.timestep_scaling;
        let norm = scaled * scaled + SIGMA_DATA_SQUARED;
        Boundary { skip: SIGMA_DATA_SQUARED / norm, out: scaled / norm.sqrt() }
    }

    /// The clean latents that the UNet's output at `timestep` stands for.
    ///
    /// # Panics
    /// If `timestep` is not below the number of training timesteps.
    #[must_use]
    pub fn predicted(&self, timestep: u32) -> Linear {
        let Mix { clean, noise } = self.mix(timestep);
        match self.facts.prediction {
            Prediction::Epsilon => Linear { sample: 1.0 / clean, output: -noise / clean },
            Prediction::Velocity => Linear { sample: clean, output: -noise },
            Prediction::Sample => Linear { sample: 0.0, output: 1.0 },
        }
    }

    /// The denoised latents at `timestep`: the prediction under the boundary scalings.
    ///
    /// # Panics
    /// If `timestep` is not below the number of training timesteps.
    #[must_use]
    pub fn denoised(&self, timestep: u32) -> Linear {
        let Boundary { skip, out } = self.boundary(timestep);
        let predicted = self.predicted(timestep).times(out);
        Linear { sample: predicted.sample + skip, ..predicted }
    }

    /// The step after an evaluation at `timestep`: to the noise level of `next`, or to clean latents.
    ///
    /// # Panics
    /// If a timestep is not below the number of training timesteps.
    #[must_use]
    pub fn step(&self, timestep: u32, next: Option<u32>) -> PlannedStep {
        let denoised = self.denoised(timestep);
        let (linear, noise) = match next.map(|next| self.mix(next)) {
            Some(mix) => (denoised.times(mix.clean), Some(mix.noise as f32)),
            None => (denoised, None),
        };
        PlannedStep { timestep, sample: linear.sample as f32, output: linear.output as f32, noise }
    }

    /// All steps of a run.
    ///
    /// # Errors
    /// As [`Schedule::timesteps`].
    pub fn plan(&self, steps: u32, strength: f64) -> Result<Vec<PlannedStep>, ScheduleError> {
        let timesteps = self.timesteps(steps, strength)?;
        let nexts = timesteps.iter().skip(1).copied().map(Some).chain([None]);
        Ok(timesteps.iter().zip(nexts).map(|(timestep, next)| self.step(*timestep, next)).collect())
    }
}
