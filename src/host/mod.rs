//! Answers as fal would, from an engine.
