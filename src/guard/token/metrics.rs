//! What is counted about tokens.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::check::TokenFault;

/// Why a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Reason {
    Malformed,
    Key,
    Signature,
    Foreign,
    Expired,
    Future,
    App,
    Origin,
    Seats,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: Reason,
}

/// Counters of tokens. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct TokenMetrics {
    minted: Counter,
    refused: Family<ReasonLabel, Counter>,
}

impl TokenMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("falgate_tokens_minted", "Tokens for sockets that were minted", self.minted.clone());
        registry.register("falgate_tokens_refused", "Tokens that opened nothing, by why", self.refused.clone());
    }

    pub(super) fn minted(&self) {
        self.minted.inc();
    }

    pub(super) fn refused(&self, fault: TokenFault) {
        let reason = match fault {
            TokenFault::Malformed => Reason::Malformed,
            TokenFault::UnknownKey => Reason::Key,
            TokenFault::Signature => Reason::Signature,
            TokenFault::Foreign => Reason::Foreign,
            TokenFault::Expired => Reason::Expired,
            TokenFault::FromTheFuture => Reason::Future,
            TokenFault::App => Reason::App,
            TokenFault::Origin => Reason::Origin,
            TokenFault::Seats { .. } => Reason::Seats,
        };
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }
}
