//! The fake's side of the [`Backend`] trait.

use std::sync::Arc;
use std::thread;

use crate::engine::{
    Backend, BackendError, EncodeRow, Latents, ModelFacts, Opened, Picture, Prediction, Schedule, StepRow, TextRow,
    TokenIds,
};

use super::paint::{self, Canvas};
use super::{FakeCall, FakeControl, FakeFault, FakePart, FakeSettings, FakeTokenizer};

/// A backend without a model, for tests, benches and demonstrations.
///
/// It paints the input tinted by the prompt, with a trace of its noise. The picture is a function of the row alone: input,
/// prompt, seed, strength, steps and guidance all show in it, and nothing else does, so that a test can tell rows apart and
/// can tell a row that was mixed up with its neighbour. [`FakeControl`] reads its log, holds calls and injects faults;
/// [`FakeSettings`] says what each call costs.
pub struct FakeBackend {
    settings: FakeSettings,
    schedule: Schedule,
    control: FakeControl,
}

impl FakeBackend {
    /// A backend, and the control over it.
    ///
    /// # Panics
    /// If the facts have no schedule.
    #[must_use]
    pub fn new(settings: FakeSettings) -> (Self, FakeControl) {
        let schedule = Schedule::new(&settings.facts.schedule).expect("a fake is given a schedule that exists");
        let control = FakeControl::default();
        (Self { settings, schedule, control: control.clone() }, control)
    }

    /// A backend with its tokenizer, ready for [`crate::engine::Engine::start`], and the control over it.
    ///
    /// # Panics
    /// If the facts have no schedule.
    #[must_use]
    pub fn open(settings: FakeSettings) -> (Opened, FakeControl) {
        let tokenizer = Box::new(FakeTokenizer::new(settings.facts.prompt_tokens));
        let (backend, control) = Self::new(settings);
        (Opened { backend: Box::new(backend), tokenizer }, control)
    }

    /// Logs a call, waits, and goes wrong if it was asked to.
    #[expect(clippy::panic, reason = "panicking is what FakeFault::Panic asks for")]
    fn enter(&self, part: FakePart, rows: usize, timesteps: Vec<u32>) -> Result<(), BackendError> {
        let fault = self.control.enter(FakeCall { part, rows, timesteps });
        let cost = self.settings.cost(part);
        if !cost.is_zero() {
            thread::sleep(cost);
        }
        let part = match part {
            FakePart::Embed => "text_encoder",
            FakePart::Encode => "vae_encoder",
            FakePart::Step => "unet",
            FakePart::Decode => "vae_decoder",
            FakePart::Check => "safety_checker",
        };
        match fault {
            None => Ok(()),
            Some(FakeFault::Fail) => Err(BackendError::Run { part, cause: "injected".into() }),
            Some(FakeFault::NotFinite) => Err(BackendError::NotFinite { part, rows: (0..rows).collect() }),
            Some(FakeFault::NotFiniteRow(row)) => Err(BackendError::NotFinite { part, rows: vec![row] }),
            Some(FakeFault::OutOfMemory) => Err(BackendError::OutOfMemory),
            Some(FakeFault::Panic) => panic!("injected"),
        }
    }

    fn encode_row(&self, row: &EncodeRow<'_>) -> Result<Latents, BackendError> {
        let facts = &self.settings.facts;
        let mut clean = paint::shrink(row.picture, facts.latent_factor, facts.latent_channels);
        let want = clean.len();
        for given in [Some(row.initial), row.posterior].into_iter().flatten() {
            fits(given.len(), want)?;
        }
        for (value, noise) in clean.iter_mut().zip(row.posterior.unwrap_or_default()) {
            *value += 0.01 * noise;
        }
        let values = clean.iter().zip(row.initial).map(|(z, noise)| row.latents * z + row.noise * noise).collect();
        Ok(Latents {
            width: row.picture.width() / facts.latent_factor,
            height: row.picture.height() / facts.latent_factor,
            data: Box::new(Canvas { values, clean }),
        })
    }

    fn step_row(&self, row: &mut StepRow<'_>) -> Result<(), BackendError> {
        let tint = row.text.0.downcast_ref::<Vec<f32>>().ok_or(BackendError::Foreign)?;
        let canvas = row.latents.data.downcast_mut::<Canvas>().ok_or(BackendError::Foreign)?;
        fits(row.guidance.len(), self.settings.facts.guidance_width.unwrap_or(0))?;
        let predicted = paint::predict(canvas, tint, row.guidance, row.timestep);
        let mix = self.schedule.mix(row.timestep);
        let (clean, noise) = (mix.clean as f32, mix.noise as f32);
        let prediction = self.settings.facts.schedule.prediction;
        for (x, target) in canvas.values.iter_mut().zip(predicted) {
            let epsilon = (*x - clean * target) / noise;
            let output = match prediction {
                Prediction::Epsilon => epsilon,
                Prediction::Velocity => clean * epsilon - noise * target,
                Prediction::Sample => target,
            };
            *x = row.sample * *x + row.output * output;
        }
        if let Some((weight, fresh)) = row.noise {
            fits(fresh.len(), canvas.values.len())?;
            for (x, fresh) in canvas.values.iter_mut().zip(fresh) {
                *x += weight * fresh;
            }
        }
        Ok(())
    }
}

impl Backend for FakeBackend {
    fn facts(&self) -> &ModelFacts {
        &self.settings.facts
    }

    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError> {
        self.enter(FakePart::Embed, prompts.len(), Vec::new())?;
        let channels = self.settings.facts.latent_channels;
        Ok(prompts.iter().map(|tokens| TextRow(Arc::new(paint::tint(tokens, channels)))).collect())
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError> {
        self.enter(FakePart::Encode, rows.len(), Vec::new())?;
        rows.iter().map(|row| self.encode_row(row)).collect()
    }

    fn step(&mut self, rows: &mut [StepRow<'_>]) -> Result<(), BackendError> {
        let entered = self.enter(FakePart::Step, rows.len(), rows.iter().map(|row| row.timestep).collect());
        let overflowed = match &entered {
            Ok(()) => &[][..],
            Err(BackendError::NotFinite { rows, .. }) => rows,
            Err(_) => return entered,
        };
        let others = rows.iter_mut().enumerate().filter(|(at, _)| !overflowed.contains(at));
        others.map(|(_, row)| row).try_for_each(|row| self.step_row(row))?;
        entered
    }

    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError> {
        self.enter(FakePart::Decode, rows.len(), Vec::new())?;
        rows.iter().map(|row| decode_row(row, self.settings.facts.latent_factor)).collect()
    }

    fn judge(&mut self, pictures: &[&Picture]) -> Result<Vec<bool>, BackendError> {
        if !self.settings.facts.safety_checker {
            return Err(BackendError::NoChecker);
        }
        self.enter(FakePart::Check, pictures.len(), Vec::new())?;
        Ok(pictures.iter().map(|picture| paint::mean(picture) > self.settings.flags_above).collect())
    }

    fn read_latents(&mut self, latents: &Latents) -> Result<Vec<f32>, BackendError> {
        Ok(canvas(latents)?.values.clone())
    }

    fn read_text(&mut self, text: &TextRow) -> Result<Vec<f32>, BackendError> {
        text.0.downcast_ref::<Vec<f32>>().cloned().ok_or(BackendError::Foreign)
    }
}

fn decode_row(row: &Latents, factor: u32) -> Result<Picture, BackendError> {
    let values = &canvas(row)?.values;
    if !values.iter().all(|value| value.is_finite()) {
        return Err(BackendError::NotFinite { part: "vae_decoder", rows: Vec::new() });
    }
    let want = (row.width * row.height) as usize;
    paint::grow(values, row.width, row.height, factor).ok_or(BackendError::Shape { got: values.len(), want })
}

fn canvas(latents: &Latents) -> Result<&Canvas, BackendError> {
    latents.data.downcast_ref::<Canvas>().ok_or(BackendError::Foreign)
}

fn fits(got: usize, want: usize) -> Result<(), BackendError> {
    if got == want { Ok(()) } else { Err(BackendError::Shape { got, want }) }
}
