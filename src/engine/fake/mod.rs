//! A backend without a model, for tests, benches and demonstrations.

mod backend;
mod control;
mod paint;
mod settings;
mod tokenizer;

pub use backend::FakeBackend;
pub use control::{FakeCall, FakeControl};
pub use settings::{FakeFault, FakePart, FakeSettings};
pub use tokenizer::FakeTokenizer;
