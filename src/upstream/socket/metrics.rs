//! What is counted about relayed sockets.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::tunnel::EndWord;
use crate::wire::frame::FrameHeader;

/// Who sent what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sender {
    Client,
    Upstream,
}

impl EncodeLabelValue for Sender {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
        .encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SenderLabel {
    from: Sender,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: EndWord,
}

/// Counters of relayed sockets. Clones count together.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    open: Gauge,
    ended: Family<EndLabel, Counter>,
    frames: Family<SenderLabel, Counter>,
    messages: Family<SenderLabel, Counter>,
    bytes: Family<SenderLabel, Counter>,
    pictures: Counter,
    refused_inputs: Counter,
    unheld_inputs: Counter,
    unopened: Counter,
    tokens: Counter,
    reconnects: Counter,
    open_seconds: Histogram,
}

impl Default for RelayMetrics {
    fn default() -> Self {
        let buckets = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];
        Self {
            open: Gauge::default(),
            ended: Family::default(),
            frames: Family::default(),
            messages: Family::default(),
            bytes: Family::default(),
            pictures: Counter::default(),
            refused_inputs: Counter::default(),
            unheld_inputs: Counter::default(),
            unopened: Counter::default(),
            tokens: Counter::default(),
            reconnects: Counter::default(),
            open_seconds: Histogram::new(buckets),
        }
    }
}

impl RelayMetrics {
    /// Registers them, under `falgate_relay_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("falgate_relay");
        registry.register("open", "Relayed sockets that are open", self.open.clone());
        registry.register("ended", "Relayed sockets that ended, by how", self.ended.clone());
        registry.register("frames", "Frames relayed, by who sent them", self.frames.clone());
        registry.register("messages", "Messages relayed, by who sent them", self.messages.clone());
        registry.register("bytes", "Bytes relayed, by who sent them", self.bytes.clone());
        registry.register("pictures", "Results of picture endpoints", self.pictures.clone());
        let refused = self.refused_inputs.clone();
        registry.register("refused_inputs", "Inputs that a policy refused", refused);
        let help = "Inputs that found no room to be held: refused, or not sent again";
        registry.register("unheld_inputs", help, self.unheld_inputs.clone());
        registry.register("unopened", "Sockets that fal would not open", self.unopened.clone());
        registry.register("tokens", "Tokens minted for relayed sockets", self.tokens.clone());
        registry.register("reconnects", "Sockets to fal that were opened anew", self.reconnects.clone());
        registry.register("open_seconds", "Time to open fal's socket, token and all", self.open_seconds.clone());
    }

    /// Counts a socket as open until the guard is dropped.
    pub(super) fn opened(&self) -> OpenSocket {
        self.open.inc();
        OpenSocket(self.open.clone())
    }

    pub(super) fn ended(&self, end: EndWord) {
        self.ended.get_or_create(&EndLabel { end }).inc();
    }

    pub(super) fn direction(&self, from: Sender) -> DirectionMetrics {
        let label = SenderLabel { from };
        DirectionMetrics {
            frames: self.frames.get_or_create_owned(&label),
            bytes: self.bytes.get_or_create_owned(&label),
        }
    }

    /// Counts the messages of a socket that ended.
    pub(super) fn messages(&self, from: Sender, count: u64) {
        self.messages.get_or_create(&SenderLabel { from }).inc_by(count);
    }

    pub(super) fn pictures(&self, count: u64) {
        self.pictures.inc_by(count);
    }

    pub(super) fn refused_inputs(&self, count: u64) {
        self.refused_inputs.inc_by(count);
    }

    pub(super) fn unheld_inputs(&self, count: u64) {
        self.unheld_inputs.inc_by(count);
    }

    pub(super) fn unopened(&self) {
        self.unopened.inc();
    }

    pub(super) fn minted(&self) {
        self.tokens.inc();
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.inc();
    }

    pub(super) fn open_took(&self, time: std::time::Duration) {
        self.open_seconds.observe(time.as_secs_f64());
    }
}

/// An open socket, in the gauge.
#[derive(Debug)]
pub(super) struct OpenSocket(Gauge);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters of one direction, looked up once.
#[derive(Debug, Clone)]
pub(super) struct DirectionMetrics {
    frames: Counter,
    bytes: Counter,
}

impl DirectionMetrics {
    pub(super) fn frames(&self, count: u64) {
        if count > 0 {
            self.frames.inc_by(count);
        }
    }

    pub(super) fn bytes(&self, count: u64) {
        self.bytes.inc_by(count);
    }
}

/// What one direction of one socket moved.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) frames: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn begins(&mut self, header: &FrameHeader) {
        self.frames += 1;
        self.messages += u64::from(header.begins_message());
    }
}
