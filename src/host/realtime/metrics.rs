//! What is counted about sockets to the engine. Handles are made once; labels come from enums.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::end::EndWord;

/// From one step of a small model to a patient queue, in seconds.
const BUCKETS: [f64; 11] = [0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Who answers a socket. Those that fal answers are counted by the relay.
const ROUTE: &str = "engine";

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    In,
    Out,
}

impl EncodeLabelValue for Direction {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
        .encode(encoder)
    }
}

/// What became of something that was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dropped {
    /// A newer input took its place before it was rendered.
    Superseded,
    /// A newer result took its place before it was read.
    Stale,
    /// It looked like the one before.
    Similar,
    /// A note that found no room.
    Note,
}

impl EncodeLabelValue for Dropped {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Superseded => "superseded",
            Self::Stale => "stale",
            Self::Similar => "similar",
            Self::Note => "note",
        }
        .encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FrameLabels {
    direction: Direction,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabel {
    what: Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: EndWord,
}

/// Counters of sockets to the engine. Clones count together.
#[derive(Debug, Clone)]
pub struct SocketMetrics {
    open: Family<RouteLabel, Gauge>,
    frames: Family<FrameLabels, Counter>,
    bytes: Family<FrameLabels, Counter>,
    dropped: Family<DroppedLabel, Counter>,
    ended: Family<EndLabel, Counter>,
    errors: Counter,
    seconds: Histogram,
}

impl Default for SocketMetrics {
    fn default() -> Self {
        Self {
            open: Family::default(),
            frames: Family::default(),
            bytes: Family::default(),
            dropped: Family::default(),
            ended: Family::default(),
            errors: Counter::default(),
            seconds: Histogram::new(BUCKETS),
        }
    }
}

impl SocketMetrics {
    /// Shows them in `registry`, under `falgate_socket…`.
    pub fn register(&self, registry: &mut Registry) {
        drop(self.open.get_or_create_owned(&RouteLabel { route: ROUTE }));
        registry.register("falgate_sockets_open", "Sockets that are open", self.open.clone());
        registry.register("falgate_socket_frames", "Messages of sockets", self.frames.clone());
        registry.register_with_unit("falgate_socket", "Payloads of sockets", Unit::Bytes, self.bytes.clone());
        let help = "Inputs, results and notes of sockets that were not delivered";
        registry.register("falgate_socket_dropped", help, self.dropped.clone());
        registry.register("falgate_socket_ended", "Sockets that ended, by how", self.ended.clone());
        registry.register("falgate_socket_errors", "Inputs of sockets answered with an error", self.errors.clone());
        let help = "Time from an input of a socket to its result";
        registry.register_with_unit("falgate_socket_result", help, Unit::Seconds, self.seconds.clone());
    }

    /// Counts a socket as open until the guard is dropped.
    pub(super) fn opened(&self) -> Open {
        let gauge = self.open.get_or_create_owned(&RouteLabel { route: ROUTE });
        gauge.inc();
        Open(gauge)
    }

    pub(super) fn came(&self, bytes: usize) {
        self.moved(Direction::In, bytes);
    }

    pub(super) fn went(&self, bytes: usize) {
        self.moved(Direction::Out, bytes);
    }

    fn moved(&self, direction: Direction, bytes: usize) {
        let labels = FrameLabels { direction, route: ROUTE };
        self.frames.get_or_create(&labels).inc();
        self.bytes.get_or_create(&labels).inc_by(bytes as u64);
    }

    pub(super) fn dropped(&self, what: Dropped) {
        self.dropped.get_or_create(&DroppedLabel { what }).inc();
    }

    pub(super) fn ended(&self, end: EndWord) {
        self.ended.get_or_create(&EndLabel { end }).inc();
    }

    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    pub(super) fn finished(&self, seconds: f64) {
        self.seconds.observe(seconds);
    }
}

/// An open socket, in the gauge.
#[derive(Debug)]
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a socket moved, for its line in the log.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) inputs: u64,
    pub(super) results: u64,
    pub(super) errors: u64,
    pub(super) superseded: u64,
    pub(super) stale: u64,
    pub(super) similar: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_show_under_their_names() {
        let (metrics, mut registry) = (SocketMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let open = metrics.opened();
        metrics.came(100);
        metrics.dropped(Dropped::Superseded);
        metrics.ended(EndWord::Idle);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        for line in [
            "falgate_sockets_open{route=\"engine\"} 1",
            "falgate_socket_frames_total{direction=\"in\",route=\"engine\"} 1",
            "falgate_socket_bytes_total{direction=\"in\",route=\"engine\"} 100",
            "falgate_socket_dropped_total{what=\"superseded\"} 1",
            "falgate_socket_ended_total{end=\"idle\"} 1",
        ] {
            assert!(text().contains(line), "{line} in {}", text());
        }
        drop(open);
        assert!(text().contains("falgate_sockets_open{route=\"engine\"} 0"));
    }
}
