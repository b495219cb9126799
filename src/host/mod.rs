//! Answers as fal would, from an engine.
pub mod fetch;
pub mod pictures;
