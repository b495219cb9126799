//! Starts the engine that the configuration asks for.

use falgate::config::{Config, Environment};
use falgate::engine::Engine;
use prometheus_client::registry::Registry;

use super::exit::Failure;

/// Starts the engine; it loads while the gate's ports open. `None` where the configuration has none.
#[cfg(feature = "onnx")]
pub(super) fn start(
    config: &Config,
    environment: &Environment,
    registry: &mut Registry,
) -> Result<Option<Engine>, Failure> {
    use falgate::engine::{EngineMetrics, LoadProgress, onnx};

    if !config.engine.enabled {
        return Ok(None);
    }
    let settings = config.engine.clone();
    let places = super::library::places(settings.library.clone(), settings.provider, environment);
    let metrics = EngineMetrics::register(registry);
    Ok(Some(Engine::start_measured(settings.clone(), metrics, move |progress: &LoadProgress| {
        onnx::open(&settings, &places, progress)
    })))
}

/// Without the `onnx` feature there is no engine to start.
#[cfg(not(feature = "onnx"))]
pub(super) fn start(config: &Config, _: &Environment, _: &mut Registry) -> Result<Option<Engine>, Failure> {
    if config.engine.enabled {
        let what = "this build has no engine: build with the feature `onnx`, or set engine.enabled to false".to_owned();
        return Err(Failure::Unavailable { what, cause: None });
    }
    Ok(None)
}
