//! What is counted about calls to fal.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How a call to fal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
    /// A status below 400.
    Answered,
    /// A status of 400 to 499.
    Refused,
    /// A status of 500 and above.
    Failed,
    /// No connection in time, or none at all.
    NotConnected,
    /// No answer in time.
    TimedOut,
    /// The connection broke, or what came was no clean HTTP.
    Broken,
    /// The caller's body broke or stalled.
    CallerGone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

/// Counters of the upstream room. Clones count together.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    requests: Family<OutcomeLabel, Counter>,
    answered: Counter,
    connect_seconds: Histogram,
    key_failovers: Counter,
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        let requests = Family::<OutcomeLabel, Counter>::default();
        let answered = requests.get_or_create_owned(&OutcomeLabel { outcome: Outcome::Answered });
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let connect_seconds = Histogram::new(buckets);
        Self { requests, answered, connect_seconds, key_failovers: Counter::default() }
    }
}

impl UpstreamMetrics {
    /// Registers them, under `falgate_upstream_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("falgate_upstream");
        registry.register("requests", "Calls to fal, by how they ended", self.requests.clone());
        let connect = self.connect_seconds.clone();
        registry.register("connect_seconds", "Time to connect to fal, TLS included", connect);
        let failovers = self.key_failovers.clone();
        registry.register("key_failovers", "Calls repeated with another key", failovers);
    }

    pub(super) fn count(&self, outcome: Outcome) {
        if outcome == Outcome::Answered {
            self.answered.inc();
        } else {
            self.requests.get_or_create(&OutcomeLabel { outcome }).inc();
        }
    }

    pub(super) fn connected(&self, after: std::time::Duration) {
        self.connect_seconds.observe(after.as_secs_f64());
    }

    pub(super) fn failed_over(&self) {
        self.key_failovers.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show_under_their_names() {
        let metrics = UpstreamMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.count(Outcome::Answered);
        metrics.count(Outcome::NotConnected);
        metrics.failed_over();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("falgate_upstream_requests_total{outcome=\"Answered\"} 1"), "{text}");
        assert!(text.contains("falgate_upstream_requests_total{outcome=\"NotConnected\"} 1"), "{text}");
        assert!(text.contains("falgate_upstream_key_failovers_total 1"), "{text}");
    }
}
