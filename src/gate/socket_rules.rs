//! The proxy's rules for inputs, for the relay of sockets: one set of rules, whichever way an input comes.

use crate::proxy::Policies;
use crate::upstream::InputRules;
use crate::wire::{EndpointId, FieldError};

/// Hands the relay's questions to the proxy's policies.
#[derive(Debug)]
pub(super) struct SocketRules(pub(super) Policies);

impl InputRules for SocketRules {
    fn concern(&self, endpoint: &EndpointId) -> bool {
        self.0.concern(endpoint)
    }

    fn apply(&self, endpoint: &EndpointId, query: Option<&str>, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
        self.0.apply(endpoint, query, input)
    }
}
