//! Runs the gate: from open ports to the last answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};
use tower_layer::Layer as _;

use super::Admin;
use super::accept::{DrainReport, EdgeServer, LimitSettings, Listener, Refusal, RefusalLayer, TlsError, TlsKeeper};
use super::assemble::{self, AssembleError, Assembled, GateService, Outside, assemble};
use super::reload::{Files, Reread};
use crate::config::Config;
use crate::engine::{Engine, EngineState, OpenError};

/// What the process is told while it serves.
#[derive(Debug, Clone)]
pub struct Orders {
    /// Becomes true when the gate should drain and end.
    pub stop: watch::Receiver<bool>,
    /// Notified when files should be read again: keys, certificates and, with [`Bound::reading_again`], limits.
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
    registry: Registry,
    orders: Orders,
) -> Result<DrainReport, ServeError> {
    bind(config, outside, registry).await?.run(orders).await
}

/// Opens everything that [`bind`] opens but the ports, and lets it go again; says all that keeps a gate from starting. The
/// engine is not asked; whoever issues tokens is.
#[must_use]
pub async fn rehearse(config: &Config, look_up: &dyn Fn(&str) -> Option<String>) -> Vec<ServeError> {
    let tls = config.gate.tls.clone().map(TlsKeeper::open).and_then(Result::err);
    let rooms = assemble::rehearse(config, look_up).await.into_iter().map(ServeError::from);
    rooms.chain(tls.map(ServeError::from)).collect()
}

/// Opens the gate's ports: whoever connects from now on is answered once the gate runs. Needs a tokio runtime.
///
/// # Errors
/// [`ServeError`] for whatever keeps the gate from starting; no port is open then.
pub async fn bind(
    config: &Config,
    outside: Outside<'_>,
    mut registry: Registry,
) -> Result<Bound<impl GateService + use<>>, ServeError> {
    let assembled = assemble(config, &outside, &mut registry).await?;
    let tls = config.gate.tls.clone().map(TlsKeeper::open).transpose()?;
    let listener = listen(config.gate.listen, "gate.listen", &config.gate.limits)?;
    let mut server = EdgeServer::new(config.gate.limits.clone(), config.gate.drain.clone())
        .with_exempt(config.guard.address.trusted_proxies.clone())
        .with_proxy_protocol(config.gate.proxy_protocol);
    if let Some(tls) = &tls {
        server = server.with_tls(tls.clone());
    }
    server.connections().show(&mut registry);
    let admin = config.gate.admin.map(|address| AdminPort::open(address, registry, &assembled, config));
    let admin = admin.transpose()?;
    for caution in super::cautions(config) {
        tracing::warn!("{caution}");
    }
    say_where(&listener, "gate.listen", if tls.is_some() { "https" } else { "http" });
    let watch_every = Duration::from_secs(config.upstream.key_watch_s.get());
    let end_engine_within = Duration::from_millis(config.gate.drain.deadline_ms.get());
    let engine = outside.engine;
    Ok(Bound { assembled, tls, listener, server, admin, engine, watch_every, end_engine_within, reread: None })
}

/// A gate whose ports are open.
pub struct Bound<S> {
    assembled: Assembled<S>,
    tls: Option<TlsKeeper>,
    listener: Listener,
    server: EdgeServer,
    admin: Option<AdminPort>,
    engine: Option<Engine>,
    watch_every: Duration,
    end_engine_within: Duration,
    reread: Option<Reread>,
}

impl<S: GateService> Bound<S> {
    /// Reads `[limits]` again in this way when told to. What callers spent stays; a configuration with faults changes
    /// nothing.
    #[must_use]
    pub fn reading_again(mut self, reread: Reread) -> Self {
        self.reread = Some(reread);
        self
    }

    /// Where the gate listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the admin listener is, if there is one.
    ///
    /// # Errors
    /// What the system says.
    pub fn admin_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.admin.as_ref().map(|admin| admin.listener.local_addr()).transpose()
    }

    /// Serves until `orders.stop` or until the engine fails, then drains. Dropping the future cuts everything.
    ///
    /// # Errors
    /// [`ServeError::Engine`] when the engine failed.
    pub async fn run(self, orders: Orders) -> Result<DrainReport, ServeError> {
        let Assembled { service, readiness, keys, access_keys, tokens, limits, drain } = self.assembled;
        let _admin = self.admin.map(AdminPort::start);
        let files = Files {
            keys: keys.clone(),
            access_keys: access_keys.clone(),
            tokens: tokens.clone(),
            tls: self.tls,
            limits,
            reread: self.reread,
        };
        let _reload = AbortOnDrop(tokio::spawn(files.reload_when_told(orders.reload)));
        let _watch_access = access_keys.map(|keys| AbortOnDrop(tokio::spawn(keys.watch(self.watch_every))));
        let _watch_tokens = tokens.map(|tokens| AbortOnDrop(tokio::spawn(tokens.watch(self.watch_every))));
        let _watch = keys.map(|keys| AbortOnDrop(tokio::spawn(keys.watch(self.watch_every))));
        let mut stop = orders.stop;
        let (engine, mut failure) = (self.engine, None);
        let told = async {
            tokio::select! {
                // A sender that is gone can tell nothing any more: then only the engine's failure ends the gate.
                Ok(_) = stop.wait_for(|stop| *stop) => {}
                cause = failed(engine.as_ref()) => failure = Some(cause),
            }
            readiness.drain();
            // Sockets are outside of what HTTP drains; whoever answers them waits for this word.
            drain.send_replace(true);
            tracing::info!("draining");
        };
        let report = self.server.serve(self.listener, service, told).await;
        if let Some(engine) = &engine {
            engine.close();
            // A model that is being opened cannot be stopped, and must not keep the process for ever.
            if tokio::time::timeout(self.end_engine_within, engine.ended()).await.is_err() {
                tracing::warn!("the engine did not end in time");
            }
        }
        failure.map_or(Ok(report), |cause| Err(ServeError::Engine(cause)))
    }
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

/// The admin listener, open and not yet served.
struct AdminPort {
    listener: Listener,
    server: EdgeServer,
    service: Refusal<Admin>,
}

impl AdminPort {
    fn open<S>(
        address: SocketAddr,
        registry: Registry,
        assembled: &Assembled<S>,
        config: &Config,
    ) -> Result<Self, ServeError> {
        let limits = LimitSettings::default();
        let listener = listen(address, "gate.admin", &limits)?;
        say_where(&listener, "gate.admin", "http");
        let admin = Admin::new(Arc::new(registry), assembled.readiness.clone());
        let service = RefusalLayer.layer(admin.with_limits(assembled.limits.0.clone()));
        Ok(Self { listener, server: EdgeServer::new(limits, config.gate.drain.clone()), service })
    }

    /// Serves as long as the guard lives. It ends with the gate: while that drains, metrics can still be read.
    fn start(self) -> AbortOnDrop {
        AbortOnDrop(tokio::spawn(async move {
            self.server.serve(self.listener, self.service, std::future::pending()).await;
        }))
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
