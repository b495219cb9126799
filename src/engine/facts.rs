//! What a loaded model is, in numbers that the other rooms plan with.

/// Facts of a loaded model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// A name for logs and pages, for example the folder's name.
    pub name: String,
    /// Both picture sides must be a multiple of this many pixels (64).
    pub size_multiple: u32,
    /// Width of the guidance embedding (`time_cond_proj_dim`), `None` for a model without one: guidance has no effect then.
    pub guidance_width: Option<usize>,
    /// Tokens a prompt is padded to (77).
    pub prompt_tokens: usize,
    /// Latent channels (4).
    pub latent_channels: usize,
    /// Pixels per latent unit along a side (8).
    pub latent_factor: u32,
    /// Rows that one call may hold.
    pub max_batch: usize,
    /// Whether rows at different timesteps may share a call. A backend that is given them all the same splits the call.
    pub timesteps: Timesteps,
    /// The schedule that the model was distilled for.
    pub schedule: ScheduleFacts,
    /// Whether it has a safety checker. Jobs that want a check are refused where it has none.
    pub safety_checker: bool,
    /// Provider and device, for logs: `cpu`, `cuda:0`.
    pub device: String,
}

/// The numbers of `scheduler_config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFacts {
    /// Training steps (1000).
    pub train_timesteps: u32,
    /// First β (0.00085).
    pub beta_start: f64,
    /// Last β (0.012). The β are spaced by `scaled_linear`.
    pub beta_end: f64,
    /// Steps of the schedule that was distilled (50).
    pub original_steps: u32,
    /// Factor before the boundary scalings (10).
    pub timestep_scaling: f64,
    /// What the UNet predicts.
    pub prediction: Prediction,
}

impl Default for ScheduleFacts {
    fn default() -> Self {
        Self {
            train_timesteps: 1000,
            beta_start: 0.000_85,
            beta_end: 0.012,
            original_steps: 50,
            timestep_scaling: 10.0,
            prediction: Prediction::Epsilon,
        }
    }
}

/// What the UNet's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity, √ᾱ·ε − √(1−ᾱ)·x₀.
    Velocity,
    /// The clean latents.
    Sample,
}

/// Whose timesteps a call of the UNet takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timesteps {
    /// One a row: people at different steps share a call.
    #[default]
    PerRow,
    /// One for the whole call (`timestep` without dimensions or with one value): only rows at equal timesteps share a call.
    Shared,
}
