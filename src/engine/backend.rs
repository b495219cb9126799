//! The seam between diffusion and the device: a backend knows tensors and rows, never schedules, prompts or callers.

use std::any::Any;
use std::sync::Arc;

use super::{ModelFacts, Picture};

/// Token ids of one prompt, padded to the model's length (77).
pub type TokenIds = Vec<i64>;

/// The text encoder's output for one prompt, kept wherever the backend likes.
///
/// Cloning is cheap: rows that share a prompt share one embedding.
#[derive(Clone)]
pub struct TextRow(pub Arc<dyn Any + Send + Sync>);

/// Latents of one row, `[4, height/8, width/8]`, kept wherever the backend likes: host memory or a device.
pub struct Latents {
    /// Width in latent units (pixels / 8).
    pub width: u32,
    /// Height in latent units (pixels / 8).
    pub height: u32,
    /// The backend's own storage. Only the backend that made it can read it.
    pub data: Box<dyn Any + Send>,
}

/// One picture to turn into noisy latents: `latents · z + noise · initial`, with `z` the scaled latents of `picture`.
pub struct EncodeRow<'a> {
    /// RGB, sides a multiple of [`ModelFacts::size_multiple`]. All rows of a call have one size.
    pub picture: &'a Picture,
    /// Unit normal noise of the posterior, `[4, h, w]`, or `None` for its mode.
    pub posterior: Option<&'a [f32]>,
    /// Weight of the clean latents, √ᾱ of the first timestep.
    pub latents: f32,
    /// Weight of the start noise, √(1−ᾱ) of the first timestep.
    pub noise: f32,
    /// Unit normal start noise, `[4, h, w]`.
    pub initial: &'a [f32],
}

/// One UNet evaluation of one row, and the linear step after it: `x ← sample·x + output·unet(x) + noise·step_noise`.
///
/// Every step of a consistency model is linear in the three, so that the schedule stays in the pipeline and the
/// arithmetic can stay on the device.
pub struct StepRow<'a> {
    /// The row's latents, replaced by the result.
    pub latents: &'a mut Latents,
    /// Training timestep, `0..1000`. Rows of one call may differ.
    pub timestep: u32,
    /// The prompt's embedding.
    pub text: &'a TextRow,
    /// Guidance embedding, [`ModelFacts::guidance_width`] values; empty for a model without one.
    pub guidance: &'a [f32],
    /// Weight of the latents.
    pub sample: f32,
    /// Weight of the UNet's output.
    pub output: f32,
    /// Weight and values `[4, h, w]` of fresh noise; `None` on the last step.
    pub noise: Option<(f32, &'a [f32])>,
}

/// A device with a model on it. Batch first: every method takes rows, also when there is one.
///
/// One OS thread owns a backend and calls it; methods may block. A backend may split a batch that its graph cannot take at
/// once, but rows of different sizes never reach it in one call.
pub trait Backend: Send {
    /// What the model is: sizes, widths, limits.
    fn facts(&self) -> &ModelFacts;

    /// Encodes prompts, one embedding a prompt.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError>;

    /// Encodes pictures and noises them.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails or a row has the wrong shape.
    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError>;

    /// Evaluates the UNet once for every row and steps each row.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails or a row has the wrong shape; the latents are then unusable. After
    /// [`BackendError::NotFinite`] those of the rows that it does not name are stepped, where it names any. After
    /// [`BackendError::OutOfMemory`] all are as they were, and fewer may be tried.
    fn step(&mut self, rows: &mut [StepRow<'_>]) -> Result<(), BackendError>;

    /// Decodes latents to pictures.
    ///
    /// # Errors
    /// [`BackendError::NotFinite`] for an overflow, never a black picture; others when the device fails.
    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError>;

    /// Says for each picture whether it must not be shown. Pictures of any sizes share a call. Only asked where
    /// [`ModelFacts::safety_checker`] is true.
    ///
    /// # Errors
    /// [`BackendError::NoChecker`] without a checker, others when the device fails. No picture passes unchecked.
    fn judge(&mut self, pictures: &[&Picture]) -> Result<Vec<bool>, BackendError> {
        let _ = pictures;
        Err(BackendError::NoChecker)
    }

    /// Copies latents to host memory, `[4, height, width]`, for tests and previews.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn read_latents(&mut self, latents: &Latents) -> Result<Vec<f32>, BackendError>;

    /// Copies an embedding to host memory, `[tokens, width]`, for tests.
    ///
    /// # Errors
    /// [`BackendError`] when the device fails.
    fn read_text(&mut self, text: &TextRow) -> Result<Vec<f32>, BackendError>;
}

impl BackendError {
    /// Whether the same rows may well do on another device.
    pub(super) const fn is_the_devices(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Panicked { .. } | Self::Count { .. } | Self::OutOfMemory)
    }
}

/// Why a device gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The runtime failed while it ran a part of the model.
    #[error("{part} failed")]
    Run {
        /// The part: `text_encoder`, `vae_encoder`, `unet`, `vae_decoder` or `safety_checker`.
        part: &'static str,
        /// What the runtime said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A result holds NaN or infinity, as half-precision overflow leaves it.
    #[error("{part} gave values that are not finite")]
    NotFinite {
        /// The part that overflowed.
        part: &'static str,
        /// The rows at fault, by their place in the call; none where the backend cannot tell.
        rows: Vec<usize>,
    },
    /// A row does not fit the model or its neighbours.
    #[error("row has {got} values where the model takes {want}")]
    Shape {
        /// Values given.
        got: usize,
        /// Values wanted.
        want: usize,
    },
    /// A check was asked of a model without a safety checker.
    #[error("model has no safety checker")]
    NoChecker,
    /// Latents or embeddings of another backend.
    #[error("row belongs to another backend")]
    Foreign,
    /// The backend panicked.
    #[error("backend panicked: {what}")]
    Panicked {
        /// The panic's message.
        what: String,
    },
    /// The backend did not give one result a row.
    #[error("backend gave {got} results for {want} rows")]
    Count {
        /// Results given.
        got: usize,
        /// Rows asked for.
        want: usize,
    },
    /// The device ran out of memory.
    #[error("device memory is exhausted")]
    OutOfMemory,
}
