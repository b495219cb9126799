//! Starts the engine that the configuration asks for.

use falgate::config::{Config, Environment};
use falgate::engine::Engine;
use prometheus_client::registry::Registry;

use super::exit::Failure;

/// What is said of an engine that has no model.
pub(super) const ENGINE: &str = "the engine cannot serve";

/// Lets the engine open its model. Dropped before that, it calls the engine off.
pub(super) struct Go(std::sync::mpsc::Sender<()>);

impl Go {
    /// The gate's ports are open.
    pub(super) fn say(self) {
        // An engine that was closed meanwhile hears nothing.
        let _ = self.0.send(());
    }
}

/// What becomes of requests that ask for safety checks, where the model has no checker; `None` where it has one.
#[cfg(feature = "onnx")]
pub(super) fn unchecked(config: &Config) -> Option<String> {
    use falgate::host::WithoutChecker;

    let model = config.engine.model.as_ref().filter(|_| config.engine.enabled)?;
    let what = match config.host.without_safety_checker {
        WithoutChecker::Warn => "served unchecked, with a warning",
        WithoutChecker::Refuse => "refused",
    };
    let sentence = format!(
        "{} has no safety checker: requests that ask for safety checks, as all do that do not say, are {what} \
         (host.without_safety_checker)",
        model.display()
    );
    (!falgate::engine::onnx::has_safety_checker(model)).then_some(sentence)
}

/// Without the `onnx` feature there is no engine to check anything.
#[cfg(not(feature = "onnx"))]
pub(super) fn unchecked(_: &Config) -> Option<String> {
    None
}

/// Starts the engine, which waits for [`Go`]: a process that ends while a model is being opened ends badly, so nothing may
/// fail after that which could have failed before. `None` where the configuration has none.
#[cfg(feature = "onnx")]
pub(super) fn start(
    config: &Config,
    environment: &Environment,
    registry: &mut Registry,
) -> Result<Option<(Engine, Go)>, Failure> {
    use falgate::engine::{EngineMetrics, LoadProgress, OpenError, onnx};

    if !config.engine.enabled {
        return Ok(None);
    }
    if let Some(sentence) = unchecked(config) {
        tracing::warn!("{sentence}");
    }
    let settings = config.engine.clone();
    let places = super::library::places(settings.library.clone(), settings.provider, environment);
    let metrics = EngineMetrics::register(registry);
    let (go, told) = std::sync::mpsc::channel();
    let engine = Engine::start_measured(settings.clone(), metrics, move |progress: &LoadProgress| {
        told.recv().map_err(|_| OpenError::CalledOff)?;
        onnx::open(&settings, &places, progress)
    });
    Ok(Some((engine, Go(go))))
}

/// Does what the engine does before it opens the first graph.
#[cfg(feature = "onnx")]
pub(super) fn rehearse(config: &Config, environment: &Environment) -> Result<(), Failure> {
    use falgate::engine::onnx;

    if !config.engine.enabled {
        return Ok(());
    }
    let places = super::library::places(config.engine.library.clone(), config.engine.provider, environment);
    onnx::rehearse(&config.engine, &places)
        .map_err(|cause| Failure::Unavailable { what: ENGINE.to_owned(), cause: Some(cause.into()) })
}

/// Without the `onnx` feature there is no engine to start.
#[cfg(not(feature = "onnx"))]
pub(super) fn rehearse(config: &Config, environment: &Environment) -> Result<(), Failure> {
    start(config, environment, &mut Registry::default()).map(drop)
}

/// Without the `onnx` feature there is no engine to start.
#[cfg(not(feature = "onnx"))]
pub(super) fn start(config: &Config, _: &Environment, _: &mut Registry) -> Result<Option<(Engine, Go)>, Failure> {
    if config.engine.enabled {
        let what = "this build has no engine: build with the feature `onnx`, or set engine.enabled to false".to_owned();
        return Err(Failure::Unavailable { what, cause: None });
    }
    Ok(None)
}
