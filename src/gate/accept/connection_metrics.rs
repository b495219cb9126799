//! Shows the register of connections in the metrics.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Connections;

impl Connections {
    /// Shows open, accepted and refused connections in `registry`.
    pub fn show(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Shown(self.clone())));
    }
}

#[derive(Debug)]
struct Shown(Connections);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let open = ConstGauge::new(i64::try_from(self.0.open()).unwrap_or(i64::MAX));
        let help = "Connections that are open";
        open.encode(encoder.encode_descriptor("falgate_connections_open", help, None, open.metric_type())?)?;
        for (name, help, value) in [
            ("falgate_connections_accepted", "Connections taken in", self.0.accepted()),
            ("falgate_connections_refused", "Connections refused at a limit", self.0.refused()),
        ] {
            let count = ConstCounter::new(value);
            count.encode(encoder.encode_descriptor(name, help, None, count.metric_type())?)?;
        }
        Ok(())
    }
}
