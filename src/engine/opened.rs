//! What opening a model gives.

use super::{Backend, Tokenize};

/// A model that was opened: the device's side and the tokenizer that belongs to it.
pub struct Opened {
    /// The model on its device.
    pub backend: Box<dyn Backend>,
    /// The model's tokenizer.
    pub tokenizer: Box<dyn Tokenize + Send>,
}
