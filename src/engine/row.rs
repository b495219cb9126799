//! One picture on its way: everything it needs from encode to decode, and nothing of its neighbours.

use std::sync::Arc;

use super::recipe::Recipe;
use super::{EncodeRow, Latents, ModelFacts, Picture, PlannedStep, Posterior, StepRow, TextRow, TorchNoise};

/// One picture on its way through the model.
///
/// A row carries its own steps, noise and guidance, so that it may share any call with any other row of its size, whatever
/// step that one has come to.
pub(super) struct Row {
    picture: Arc<Picture>,
    text: TextRow,
    guidance: Arc<[f32]>,
    steps: Arc<[PlannedStep]>,
    posterior: Posterior,
    noise: Noise,
    latents: Option<Latents>,
    taken: usize,
}

/// A row's noise: its generator, and the draws that the next call needs.
struct Noise {
    generator: TorchNoise,
    first: Vec<f32>,
    second: Vec<f32>,
    /// The call that noise was drawn for, so that one that is tried again has the same.
    drawn: Option<Call>,
}

/// A call that needs noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Encode,
    /// The step after so many others.
    Step(usize),
}

impl Noise {
    /// Whether noise is still to be drawn for a call; it is taken to be drawn from here on.
    fn is_due(&mut self, call: Call) -> bool {
        self.drawn.replace(call) != Some(call)
    }
}

impl Row {
    /// The row of one seed of a recipe, with the embedding of its prompt.
    pub(super) fn new(recipe: &Recipe, seed: u64, text: TextRow, facts: &ModelFacts) -> Self {
        let (width, height) = recipe.size();
        let latent = |side: u32| (side / facts.latent_factor) as usize;
        let values = facts.latent_channels * latent(width) * latent(height);
        let generator = TorchNoise::new(seed);
        Self {
            picture: Arc::clone(&recipe.picture),
            text,
            guidance: Arc::clone(&recipe.guidance),
            steps: Arc::clone(&recipe.steps),
            posterior: recipe.posterior,
            noise: Noise { generator, first: vec![0.0; values], second: vec![0.0; values], drawn: None },
            latents: None,
            taken: 0,
        }
    }

    /// Draws the noise for encoding: the posterior's, also where it is not used, then the start noise.
    pub(super) fn draw_for_encode(&mut self) {
        if self.noise.is_due(Call::Encode) {
            self.noise.generator.fill(&mut self.noise.first);
            self.noise.generator.fill(&mut self.noise.second);
        }
    }

    /// What the backend encodes; `latents` and `noise` are the weights of the first timestep.
    pub(super) fn encoding(&self, latents: f32, noise: f32) -> EncodeRow<'_> {
        let posterior = match self.posterior {
            Posterior::Sample => Some(self.noise.first.as_slice()),
            Posterior::Mode => None,
        };
        EncodeRow { picture: &self.picture, posterior, latents, noise, initial: &self.noise.second }
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.picture.width(), self.picture.height())
    }

    /// Evaluations that are left.
    pub(super) fn steps_left(&self) -> usize {
        self.steps.len() - self.taken
    }

    /// The timestep that comes next, unless all steps are taken.
    pub(super) fn timestep(&self) -> Option<u32> {
        self.steps.get(self.taken).map(|step| step.timestep)
    }

    /// Takes the latents that encoding gave.
    pub(super) fn encoded(&mut self, latents: Latents) {
        self.latents = Some(latents);
    }

    /// Draws the noise for the next step, if it needs any.
    pub(super) fn draw_for_step(&mut self) {
        let needs_some = self.steps.get(self.taken).is_some_and(|step| step.noise.is_some());
        if needs_some && self.noise.is_due(Call::Step(self.taken)) {
            self.noise.generator.fill(&mut self.noise.first);
        }
    }

    /// What the backend steps; `None` before encoding and after the last step.
    pub(super) fn stepping(&mut self) -> Option<StepRow<'_>> {
        let step = self.steps.get(self.taken)?;
        Some(StepRow {
            latents: self.latents.as_mut()?,
            timestep: step.timestep,
            text: &self.text,
            guidance: &self.guidance,
            sample: step.sample,
            output: step.output,
            noise: step.noise.map(|weight| (weight, self.noise.first.as_slice())),
        })
    }

    /// Counts a step that the backend has taken.
    pub(super) fn stepped(&mut self) {
        self.taken += 1;
    }

    /// The latents, once all steps are taken.
    pub(super) fn finished(&self) -> Option<&Latents> {
        self.timestep().is_none().then_some(self.latents.as_ref()).flatten()
    }
}
