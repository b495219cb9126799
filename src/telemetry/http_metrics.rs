//! What the gate counts of HTTP. Every handle is made once; labels come from enums.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::{CallNote, LogWriter};

const ROUTES: [&str; 3] = ["engine", "upstream", "gate"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// From a refusal to a long queue, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What the gate counts of HTTP: requests by route and status class, how long they took, bytes, and those in flight.
/// Clones share the numbers.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    routes: [RouteMetrics; ROUTES.len()],
    in_flight: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
}

#[derive(Debug, Clone)]
struct RouteMetrics {
    classes: [Counter<u64, AtomicU64>; CLASSES.len()],
    seconds: Histogram,
}

impl HttpMetrics {
    /// Makes the numbers and shows them in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            routes: std::array::from_fn(|_| RouteMetrics {
                classes: std::array::from_fn(|_| Counter::default()),
                seconds: Histogram::new(BUCKETS),
            }),
            in_flight: Gauge::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
        };
        registry.register("falgate_requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        for (name, help, counter) in [
            ("falgate_request_body", "Bytes of request bodies", &metrics.bytes_in),
            ("falgate_response_body", "Bytes of response bodies", &metrics.bytes_out),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
        }
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    pub(super) fn began(&self) {
        self.in_flight.inc();
    }

    pub(super) fn ended(&self, note: Option<&CallNote>, status: Option<StatusCode>, served: Duration) {
        self.in_flight.dec();
        let route = note.map_or("gate", |note| note.route);
        let at = ROUTES.iter().position(|name| *name == route).unwrap_or(ROUTES.len() - 1);
        // A client that left before the head of its answer counts as a refusal of its own making.
        let class = status.map_or(3, |status| usize::from(status.as_u16() / 100).clamp(1, 5) - 1);
        self.routes[at].classes[class].inc();
        self.routes[at].seconds.observe(served.as_secs_f64());
    }

    pub(super) fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.inc_by(bytes_in);
        self.bytes_out.inc_by(bytes_out);
    }

    /// Shows the lines that `log` lost.
    pub fn show_log(registry: &mut Registry, log: LogWriter) {
        registry.register_collector(Box::new(LostLines(log)));
    }
}

impl Collector for HttpMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(0_u64);
        let mut requests =
            encoder.encode_descriptor("falgate_requests", "Answered requests", None, counter.metric_type())?;
        for (route, name) in self.routes.iter().zip(ROUTES) {
            for (count, class) in route.classes.iter().zip(CLASSES) {
                let labels = [("route", name), ("status", class)];
                count.encode(requests.encode_family(&labels)?)?;
            }
        }
        let first = &self.routes[0].seconds;
        let help = "Time from the head of a request to the end of its answer";
        let mut seconds =
            encoder.encode_descriptor("falgate_request_duration", help, Some(&Unit::Seconds), first.metric_type())?;
        for (route, name) in self.routes.iter().zip(ROUTES) {
            let labels = [("route", name)];
            route.seconds.encode(seconds.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct LostLines(LogWriter);

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lost = ConstCounter::new(self.0.dropped());
        let help = "Request lines that found no room in the log's buffer";
        let metric = encoder.encode_descriptor("falgate_log_lines_lost", help, None, lost.metric_type())?;
        lost.encode(metric)
    }
}
