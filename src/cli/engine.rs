//! Starts the engine that the configuration asks for.

use falgate::config::{Config, Environment};
use falgate::engine::Engine;
use prometheus_client::registry::Registry;

use super::exit::Failure;

/// What is said of an engine that has no model.
pub(super) const ENGINE: &str = "the engine cannot serve";

/// What the devices of an engine were told.
#[cfg(feature = "onnx")]
enum Told {
    /// Nothing yet.
    Yet(std::sync::mpsc::Receiver<()>),
    /// To open their model.
    Go,
    /// That there is no engine: it was called off, or another device cannot be had.
    Stop,
}

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
    use std::sync::{Arc, Mutex, PoisonError};

    use falgate::engine::{EngineMetrics, EngineSettings, LoadProgress, OpenError, Opener, onnx};

    if !config.engine.enabled {
        return Ok(None);
    }
    if let Some(sentence) = unchecked(config) {
        tracing::warn!("{sentence}");
    }
    let settings = config.engine.clone();
    let places = super::library::places(settings.library.clone(), settings.provider, environment);
    let metrics = EngineMetrics::register(registry);
    let (go, told) = std::sync::mpsc::channel::<()>();
    // One device after the other: the next goes on when the one before has let go of this.
    let told = Arc::new(Mutex::new(Told::Yet(told)));
    let opener = |device: &u32| -> Opener {
        let settings = EngineSettings { devices: vec![*device], ..settings.clone() };
        let (told, places) = (Arc::clone(&told), places.clone());
        Box::new(move |progress: &LoadProgress| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            let go = match std::mem::replace(&mut *told, Told::Stop) {
                Told::Yet(told) => told.recv().is_ok(),
                Told::Go => true,
                Told::Stop => false,
            };
            let opened = if go { onnx::open(&settings, &places, progress) } else { Err(OpenError::CalledOff) };
            *told = if opened.is_ok() { Told::Go } else { Told::Stop };
            opened
        })
    };
    let openers = settings.devices.iter().map(opener).collect();
    let engine = Engine::start_on(settings.clone(), metrics, openers);
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
