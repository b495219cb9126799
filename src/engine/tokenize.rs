//! From a prompt to token ids.

use super::TokenIds;

/// Turns prompts into token ids of the model's length.
pub trait Tokenize {
    /// Encodes one prompt: start marker, the prompt's tokens as far as they fit, end markers up to the model's length.
    fn encode(&self, prompt: &str) -> TokenIds;
}
