//! A *backend* knows tensors, the *pipeline* knows diffusion, the *batcher* knows people. No HTTP, JSON or fal here.

mod backend;
mod bpe;
mod error;
mod facts;
mod job;
#[cfg(feature = "onnx")]
pub mod onnx;
mod picture;
mod tokenizer;

pub use backend::{Backend, BackendError, EncodeRow, Latents, StepRow, TextRow, TokenIds};
pub use error::EngineError;
pub use facts::{ModelFacts, Prediction, ScheduleFacts};
pub use job::{Done, Job, Posterior, Timings};
pub use picture::Picture;
pub use tokenizer::{ClipTokenizer, VocabularyError};
