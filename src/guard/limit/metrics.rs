//! What each limit let through and refused. Labels are the names in the configuration.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    limit: String,
}

/// The numbers of all limits. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct LimitMetrics {
    passed: Family<Labels, Counter>,
    refused: Family<Labels, Counter>,
    would_refuse: Family<Labels, Counter>,
    lost_debts: Counter,
    store_refused: Counter,
    store_local: Counter,
    leased: Counter,
}

/// The numbers of one limit, looked up once.
#[derive(Debug, Clone)]
pub(super) struct RuleCounts {
    passed: Counter,
    refused: Counter,
    would_refuse: Counter,
}

impl LimitMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("falgate_limit_passed", "Calls and frames that a limit let through", self.passed.clone());
        registry.register("falgate_limit_refused", "Calls and frames that a limit refused", self.refused.clone());
        registry.register(
            "falgate_limit_would_refuse",
            "Calls and frames that a limit in a dry run would have refused",
            self.would_refuse.clone(),
        );
        registry.register(
            "falgate_limit_lost_debts",
            "Calls that cost more than was estimated, with no room to remember it",
            self.lost_debts.clone(),
        );
        registry.register(
            "falgate_limit_store_refused",
            "Calls and frames refused because the shared store of limits did not answer",
            self.store_refused.clone(),
        );
        registry.register(
            "falgate_limit_store_local",
            "Calls and frames counted by this gate alone because the shared store of limits did not answer",
            self.store_local.clone(),
        );
        registry.register(
            "falgate_limit_leased",
            "Calls and frames that needed no round trip, because cells had been taken from the shared store ahead",
            self.leased.clone(),
        );
    }

    /// The numbers of the limit with this name.
    pub(super) fn rule(&self, name: &str) -> RuleCounts {
        let labels = Labels { limit: name.to_owned() };
        RuleCounts {
            passed: self.passed.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
            would_refuse: self.would_refuse.get_or_create_owned(&labels),
        }
    }

    /// The store did not answer, and the call was refused.
    #[cfg(feature = "redis")]
    pub(super) fn store_refused(&self) {
        self.store_refused.inc();
    }

    /// The store did not answer, and the call was counted here.
    #[cfg(feature = "redis")]
    pub(super) fn store_local(&self) {
        self.store_local.inc();
    }

    /// A call was paid from leases.
    #[cfg(feature = "redis")]
    pub(super) fn leased(&self) {
        self.leased.inc();
    }

    /// The number of debts that could not be remembered.
    #[cfg(feature = "redis")]
    pub(super) fn lost_debts(&self) -> Counter {
        self.lost_debts.clone()
    }

    /// Shows nothing any more of a limit that is gone.
    pub(super) fn forget(&self, name: &str) {
        let labels = Labels { limit: name.to_owned() };
        for family in [&self.passed, &self.refused, &self.would_refuse] {
            family.remove(&labels);
        }
    }

    /// A debt that could not be remembered.
    pub(super) fn lost_debt(&self) {
        self.lost_debts.inc();
    }
}

impl RuleCounts {
    pub(super) fn passed(&self) {
        self.passed.inc();
    }

    pub(super) fn refused(&self) {
        self.refused.inc();
    }

    pub(super) fn would_refuse(&self) {
        self.would_refuse.inc();
    }

    /// Passed, refused, would have refused.
    pub(super) fn seen(&self) -> [u64; 3] {
        [&self.passed, &self.refused, &self.would_refuse].map(|counter| counter.get())
    }
}
