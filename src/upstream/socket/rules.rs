//! The operator's rules for inputs, as this room knows them: it asks, somebody above answers.

use crate::wire::{EndpointId, FieldError};

/// Rules for the inputs that come on sockets.
///
/// They are the rules that hold for requests too; this room does not know them and asks for each message.
pub trait InputRules: std::fmt::Debug + Send + Sync {
    /// Whether inputs of this endpoint must be read at all. Where not, sockets are tunnelled as they are.
    fn concern(&self, endpoint: &EndpointId) -> bool;

    /// Checks an input, a JSON object, and writes the one that is sent in its place.
    ///
    /// # Errors
    /// One entry for each field at fault.
    fn apply(&self, endpoint: &EndpointId, query: Option<&str>, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>>;
}
