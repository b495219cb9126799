//! A *backend* knows tensors, the *pipeline* knows diffusion, the *batcher* knows people. No HTTP, JSON or fal here.

mod backend;
mod error;
mod facts;
mod job;
mod picture;

pub use backend::{Backend, BackendError, EncodeRow, Latents, StepRow, TextRow, TokenIds};
pub use error::EngineError;
pub use facts::{ModelFacts, Prediction, ScheduleFacts};
pub use job::{Done, Job, Posterior, Timings};
pub use picture::Picture;
