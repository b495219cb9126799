//! What is counted in the waiting room.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters of the waiting room. Clones count together.
#[derive(Debug, Clone)]
pub struct WaitingMetrics {
    seated: Gauge,
    waiting: Gauge,
    waited: Histogram,
    told: Counter,
    full: Counter,
}

impl Default for WaitingMetrics {
    fn default() -> Self {
        let seconds = [0.1, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0];
        Self {
            seated: Gauge::default(),
            waiting: Gauge::default(),
            waited: Histogram::new(seconds),
            told: Counter::default(),
            full: Counter::default(),
        }
    }
}

impl WaitingMetrics {
    /// Shows them in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("falgate_waiting_seated", "Callers that have a place at the engine", self.seated.clone());
        registry.register("falgate_waiting_callers", "Callers that wait for a place", self.waiting.clone());
        registry.register("falgate_waiting_seconds", "From the queue to a place", self.waited.clone());
        registry.register("falgate_waiting_told", "Requests answered with their place", self.told.clone());
        registry.register("falgate_waiting_full", "Calls that found no room to wait", self.full.clone());
    }

    pub(super) fn now(&self, seated: usize, waiting: usize) {
        self.seated.set(i64::try_from(seated).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub(super) fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    pub(super) fn told(&self) {
        self.told.inc();
    }

    pub(super) fn full(&self) {
        self.full.inc();
    }
}
