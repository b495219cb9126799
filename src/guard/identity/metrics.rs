//! What is counted of who calls.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Who a caller turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Somebody with a name.
    Named,
    /// A visitor who is known.
    Visitor,
    /// Somebody who showed nothing.
    Nobody,
    /// Somebody whose credential is bad.
    Refused,
    /// Somebody who could not be checked.
    Unchecked,
}

impl EncodeLabelValue for Who {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Named => "named",
            Self::Visitor => "visitor",
            Self::Nobody => "nobody",
            Self::Refused => "refused",
            Self::Unchecked => "unchecked",
        }
        .encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhoLabel {
    who: Who,
}

/// Counts callers. Clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct IdentityMetrics {
    callers: Family<WhoLabel, Counter>,
}

impl IdentityMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("falgate_callers", "Calls by what is known of their callers", self.callers.clone());
    }

    pub(super) fn count(&self, who: Who) {
        self.callers.get_or_create(&WhoLabel { who }).inc();
    }
}
