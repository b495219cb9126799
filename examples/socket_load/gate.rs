//! A gate of its own process whose engine has a device that takes a fixed time: what is measured is everything around it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use falgate::config::{Config, Environment};
use falgate::engine::Engine;
use falgate::gate::{Orders, Outside};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::arguments::Gate;
use super::device;
use super::error::LoadError;

/// Serves until SIGTERM, then drains as `falgate serve` does.
pub(crate) fn run(task: &Gate) -> Result<(), LoadError> {
    let environment = Environment::new(std::env::vars_os());
    let config = config(&task.config, &environment)?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let mut builder = match config.gate.workers.map(std::num::NonZeroUsize::get) {
        Some(1) => Builder::new_current_thread(),
        workers => {
            let mut builder = Builder::new_multi_thread();
            workers.map(|workers| builder.worker_threads(workers));
            builder
        }
    };
    builder.enable_all().build()?.block_on(serve(&config, &environment, Duration::from_millis(task.backend_ms)))
}

fn config(file: &Path, environment: &Environment) -> Result<Config, LoadError> {
    let config = Config::load(&std::fs::read_to_string(file)?, environment);
    let config = config.map_err(|faults| LoadError::Setup(faults.to_string()))?;
    if config.gate.listen.ip().is_loopback() {
        Ok(config)
    } else {
        Err(LoadError::Place(config.gate.listen.to_string()))
    }
}

async fn serve(config: &Config, environment: &Environment, cost: Duration) -> Result<(), LoadError> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Tasks(Handle::current())));
    let engine = config.engine.enabled.then(|| {
        let opened = device::open(cost);
        Engine::start(config.engine.clone(), move |_| Ok(opened))
    });
    let (tell, stop) = watch::channel(false);
    let mut term = signal(SignalKind::terminate())?;
    // Ends with the process.
    tokio::spawn(async move {
        term.recv().await;
        tell.send_replace(true);
    });
    let outside = Outside { engine, log: None, look_up: &|name| environment.look_up(name) };
    let orders = Orders { stop, reload: Arc::new(Notify::new()) };
    let report = Box::pin(falgate::gate::serve(config, outside, registry, orders)).await;
    let report = report.map_err(|error| LoadError::Setup(error.to_string()))?;
    tracing::warn!(accepted = report.accepted, open = report.open_at_end, cut = report.cut, "drained");
    Ok(())
}

/// Shows how many tasks live: what is left when all sockets are gone has leaked.
#[derive(Debug)]
struct Tasks(Handle);

impl Collector for Tasks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let tasks = ConstGauge::new(i64::try_from(self.0.metrics().num_alive_tasks()).unwrap_or(i64::MAX));
        tasks.encode(encoder.encode_descriptor("tasks_alive", "Tasks of the runtime", None, tasks.metric_type())?)
    }
}
