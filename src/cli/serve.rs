//! `falgate serve`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use falgate::config::{Config, Environment};
use falgate::gate::{Orders, Outside, Reread, RereadError, ServeError};
use falgate::telemetry::{LogGuard, LogLevel, LogWriter};
use prometheus_client::registry::Registry;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::arguments::{ConfigFile, Serve};
use super::exit::Failure;
use super::{configuration, engine, logging};

/// Runs the gate until it is told to stop and has drained.
pub(super) fn run(serve: &Serve, environment: Environment) -> Result<(), Failure> {
    let environment = match serve.listen {
        Some(listen) => environment.with_flag("--listen", "gate.listen", format!("\"{listen}\"")),
        None => environment,
    };
    let config = configuration::load(&serve.file, &environment)?;
    forbid_core_dumps()?;
    logging::start(&config.telemetry);
    let (log, _log_guard) = request_log(&config)?;
    let reread = reread(&serve.file, &environment);
    runtime(config.gate.workers)?.block_on(serve_until_told((&config, reread), &environment, log))
}

/// Reads the same file, under the variables that the process was started with.
fn reread(file: &ConfigFile, environment: &Environment) -> Reread {
    let (path, environment) = (file.config.clone(), environment.clone());
    Arc::new(move || {
        let text = path.as_ref().map_or_else(|| Ok(String::new()), std::fs::read_to_string);
        Ok(Config::load(&text.map_err(RereadError::Unreadable)?, &environment)?)
    })
}

async fn serve_until_told(
    (config, reread): (&Config, Reread),
    environment: &Environment,
    log: Option<LogWriter>,
) -> Result<(), Failure> {
    let orders = listen_to_signals()?;
    let mut registry = Registry::default();
    if let Some(log) = &log {
        falgate::telemetry::HttpMetrics::show_log(&mut registry, log.clone());
    }
    let (engine, go) = engine::start(config, environment, &mut registry)?.unzip();
    let outside = Outside { engine: engine.clone(), log, look_up: &|name| environment.look_up(name) };
    let served = match falgate::gate::bind(config, outside, registry).await {
        Ok(bound) => {
            if let Some(go) = go {
                go.say();
            }
            bound.reading_again(reread).run(orders).await
        }
        Err(error) => {
            drop(go);
            if let Some(engine) = engine {
                engine.ended().await;
            }
            Err(error)
        }
    };
    match served {
        Ok(report) => {
            let (open, cut, accepted) = (report.open_at_end, report.cut, report.accepted);
            tracing::info!(accepted, open, cut, "drained");
            Ok(())
        }
        Err(ServeError::Engine(cause)) => {
            Err(Failure::Unavailable { what: engine::ENGINE.to_owned(), cause: Some(Box::new(cause)) })
        }
        Err(error @ (ServeError::Assemble(_) | ServeError::Tls(_))) => Err(Failure::Unusable { causes: vec![error] }),
        Err(error) => Err(Failure::Running { what: "the gate cannot serve", cause: Box::new(error) }),
    }
}

/// SIGTERM and SIGINT stop, and end the process at once when they come again. SIGHUP reads keys, certificates and limits again.
fn listen_to_signals() -> Result<Orders, Failure> {
    let open =
        |kind| signal(kind).map_err(|cause| Failure::Running { what: "cannot hear signals", cause: cause.into() });
    let (mut term, mut interrupt, mut hang_up) =
        (open(SignalKind::terminate())?, open(SignalKind::interrupt())?, open(SignalKind::hangup())?);
    let (tell, stop) = watch::channel(false);
    let reload = Arc::new(Notify::new());
    let orders = Orders { stop, reload: Arc::clone(&reload) };
    // Lives as long as the process.
    tokio::spawn(async move {
        loop {
            let told_before = tokio::select! {
                _ = term.recv() => tell.send_replace(true),
                _ = interrupt.recv() => tell.send_replace(true),
                _ = hang_up.recv() => { reload.notify_one(); false }
            };
            if told_before {
                // Whoever asks twice does not want to wait for the drain.
                std::process::exit(1);
            }
        }
    });
    Ok(orders)
}

/// The request log on standard error, where the level lets it be.
fn request_log(config: &Config) -> Result<(Option<LogWriter>, Option<LogGuard>), Failure> {
    match config.telemetry.level {
        LogLevel::Off | LogLevel::Error | LogLevel::Warn => Ok((None, None)),
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => {
            let (writer, guard) = LogWriter::start(std::io::stderr())
                .map_err(|cause| Failure::Running { what: "cannot start the request log", cause: cause.into() })?;
            Ok((Some(writer), Some(guard)))
        }
    }
}

/// Keeps the process's memory, and the key in it, out of core dumps and away from other processes of the same user.
fn forbid_core_dumps() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|cause| Failure::Running { what: "cannot forbid core dumps", cause: cause.into() })
}

/// A runtime with so many workers, by default one a core. One worker needs no threads of its own.
fn runtime(workers: Option<NonZeroUsize>) -> Result<Runtime, Failure> {
    let mut builder = match workers.map(NonZeroUsize::get) {
        Some(1) => Builder::new_current_thread(),
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => Builder::new_multi_thread(),
    };
    builder
        .enable_all()
        .build()
        .map_err(|cause| Failure::Running { what: "cannot start the threads", cause: cause.into() })
}
