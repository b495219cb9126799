//! What is counted at the door of sockets.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a socket was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// Its token or key opens nothing.
    Unauthorized,
    /// Too many sockets are open, in all or from its address.
    TooMany,
    /// It asked for nothing that is there, or not rightly.
    BadRequest,
}

impl EncodeLabelValue for Refused {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::TooMany => "too_many",
            Self::BadRequest => "bad_request",
        }
        .encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: Refused,
}

/// Counters of the door of sockets. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct SocketDoorMetrics {
    refused: Family<WhyLabel, Counter>,
}

impl SocketDoorMetrics {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("falgate_sockets_refused", "Sockets that were not let in", self.refused.clone());
    }

    pub(super) fn refused(&self, why: Refused) {
        self.refused.get_or_create(&WhyLabel { why }).inc();
    }
}
