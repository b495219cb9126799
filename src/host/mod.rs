//! Answers as fal would, from an engine.
pub mod pictures;
