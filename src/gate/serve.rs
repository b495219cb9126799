//! Runs the gate: from open ports to the last answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};
use tower::ServiceBuilder;

use super::Admin;
use super::accept::{DrainReport, EdgeServer, LimitSettings, Listener, RefusalLayer, TlsError, TlsKeeper};
use super::assemble::{AssembleError, Outside, assemble};
use crate::config::Config;
use crate::engine::{Engine, EngineState, OpenError};
use crate::upstream::KeyRing;

/// What the process is told while it serves.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Becomes true when the gate should drain and end.
    pub stop: watch::Receiver<bool>,
    /// Notified when files should be read again: keys and certificates.
    pub reload: Arc<Notify>,
}

/// Why the gate did not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The rooms could not be put together.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The certificate or its key cannot be used.
    #[error("the certificate cannot be used (gate.tls)")]
    Tls(#[from] TlsError),
    /// A port is not to be had.
    #[error("cannot listen on {address} ({setting})")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The engine has no model to serve with.
    #[error("the engine cannot serve (engine)")]
    Engine(#[source] Arc<OpenError>),
}

/// Serves until `orders.stop`, then drains: refuses new connections, finishes what is in flight, cuts what is left at the
/// deadline, and lets the engine end.
///
/// # Errors
/// [`ServeError`] before a port is open, and when the engine fails.
pub async fn serve(
    config: &Config,
    outside: Outside<'_>,
    mut registry: Registry,
    orders: Orders,
) -> Result<DrainReport, ServeError> {
    let assembled = assemble(config, &outside, &mut registry)?;
    let tls = config.gate.tls.clone().map(TlsKeeper::open).transpose()?;
    let listener = listen(config.gate.listen, "gate.listen", &config.gate.limits)?;
    let mut server = EdgeServer::new(config.gate.limits.clone(), config.gate.drain.clone())
        .with_exempt(config.guard.address.trusted_proxies.clone());
    if let Some(tls) = &tls {
        server = server.with_tls(tls.clone());
    }
    server.connections().show(&mut registry);
    let _admin = start_admin(config, registry, &assembled.readiness)?;
    say_where(&listener, "gate.listen", if tls.is_some() { "https" } else { "http" });
    let _reload = AbortOnDrop(tokio::spawn(reload_files(assembled.keys.clone(), tls, Arc::clone(&orders.reload))));
    let _watch = assembled.keys.map(|keys| {
        let every = Duration::from_secs(config.upstream.key_watch_s.get());
        AbortOnDrop(tokio::spawn(keys.watch(every)))
    });

    let (readiness, mut stop) = (assembled.readiness, orders.stop);
    let told = async move {
        // A sender that is gone can tell nothing any more: then only the engine's failure ends the gate.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        readiness.drain();
        tracing::info!("draining");
    };
    let serving = server.serve(listener, assembled.service, told);
    let ended = tokio::select! {
        report = serving => Ok(report),
        cause = failed(outside.engine.as_ref()) => Err(ServeError::Engine(cause)),
    };
    if let Some(engine) = &outside.engine {
        engine.close();
        engine.ended().await;
    }
    ended
}

fn listen(address: SocketAddr, setting: &'static str, limits: &LimitSettings) -> Result<Listener, ServeError> {
    Listener::bind(address, limits).map_err(|cause| ServeError::Listen { address, setting, cause })
}

fn say_where(listener: &Listener, setting: &'static str, scheme: &'static str) {
    match listener.local_addr() {
        Ok(address) => tracing::info!(setting, "listening on {scheme}://{address}"),
        Err(error) => tracing::warn!(%error, setting, "listening, but the system does not say where"),
    }
}

fn start_admin(
    config: &Config,
    registry: Registry,
    readiness: &super::Readiness,
) -> Result<Option<AbortOnDrop>, ServeError> {
    let Some(address) = config.gate.admin else { return Ok(None) };
    let limits = LimitSettings::default();
    let listener = listen(address, "gate.admin", &limits)?;
    say_where(&listener, "gate.admin", "http");
    let admin = ServiceBuilder::new().layer(RefusalLayer).service(Admin::new(Arc::new(registry), readiness.clone()));
    let server = EdgeServer::new(limits, config.gate.drain.clone());
    // Ends with the gate: while it drains, metrics can still be read.
    let task = tokio::spawn(async move {
        server.serve(listener, admin, std::future::pending()).await;
    });
    Ok(Some(AbortOnDrop(task)))
}

async fn reload_files(keys: Option<KeyRing>, tls: Option<TlsKeeper>, reload: Arc<Notify>) {
    loop {
        reload.notified().await;
        if let Some(keys) = &keys {
            match keys.reload() {
                Ok(()) => tracing::info!("read the fal key files again"),
                Err(error) => tracing::error!(%error, "kept the fal keys at hand"),
            }
        }
        if let Some(tls) = &tls {
            match tls.reload() {
                Ok(()) => tracing::info!("read the certificate again"),
                Err(error) => tracing::error!(%error, "kept the certificate at hand"),
            }
        }
    }
}

/// Ready when the engine has failed, and never otherwise.
async fn failed(engine: Option<&Engine>) -> Arc<OpenError> {
    if let Some(engine) = engine {
        let mut state = engine.state();
        loop {
            if let EngineState::Failed(cause) = &*state.borrow_and_update() {
                return Arc::clone(cause);
            }
            if state.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
