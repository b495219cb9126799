//! The only room that holds the fal key and dials out.
