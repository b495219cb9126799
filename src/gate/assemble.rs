//! Makes one service of the rooms, from a checked configuration.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tower::ServiceBuilder;
use tower_layer::Layer as _;
use tower_service::Service;

use super::accept::Connections;
use super::frame_limits::FrameLimits;
use super::layers::Origins;
use super::optional::Optional;
use super::public_health::PublicHealth;
use super::route_table::RouteTable;
use super::socket_rules::SocketRules;
use super::sockets::{Entrance, SocketDoor, SocketDoorMetrics};
use super::stack::{Layers, stack, subject};
use super::token_route::TokenRoute;
use super::{DirectDoor, EngineReadiness, Readiness, Routes, Steer, Uploads};
use crate::config::Config;
use crate::engine::{Engine, EngineState};
use crate::guard::{
    AccessKeys, AccessKeysLayer, ClientAddrLayer, LimitError, LimitLayer, Limits, OriginFault, OriginsLayer, Prices,
    TokenKeyError, TokenService, Tokens,
};
use crate::host::HostService;
use crate::host::fetch::Fetcher;
use crate::host::realtime::SocketMetrics;
use crate::host::waiting::{WaitingMetrics, WaitingRoom};
use crate::playground::Playground;
use crate::proxy::{FalProxyLayer, Policies};
use crate::telemetry::{HttpMetrics, LogWriter, LoggedBody, RequestLogLayer};
use crate::upstream::{
    FalKeyLayer, KeyError, KeyRing, RelayMetrics, SocketRelayLayer, UpstreamClient, UpstreamMetrics,
};
use crate::wire::{AllowedTargets, Body, MemoryBudget, Problem, PublicOrigin, Reach, TargetSettings};

const PROXY_PATH: &str = "/api/fal/proxy";
const OLD_PROXY_PATH: &str = "/api/_fal/proxy";

/// What the configuration alone does not give.
pub struct Outside<'a> {
    /// The engine, where the configuration has one.
    pub engine: Option<Engine>,
    /// Where request lines go; `None` for nowhere.
    pub log: Option<LogWriter>,
    /// Looks up a variable of the process environment that may hold a secret.
    pub look_up: &'a dyn Fn(&str) -> Option<String>,
}

/// What the gate serves: every call, from whichever door.
pub trait GateService:
    Service<Request<Body>, Response = Response<LoggedBody<Body>>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GateService for S
where
    S: Service<Request<Body>, Response = Response<LoggedBody<Body>>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
}

/// The rooms, put together.
pub struct Assembled<S> {
    /// Answers requests. [`EdgeServer`](super::accept::EdgeServer) serves it.
    pub service: S,
    /// `/readyz`.
    pub readiness: Readiness,
    /// The fal keys, if any were found.
    pub keys: Option<KeyRing>,
    /// What signs and checks tokens, where there is anything to open with one.
    pub tokens: Option<Tokens>,
    /// Made true when sockets are to end in good order.
    pub drain: watch::Sender<bool>,
}

/// Why the rooms could not be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// No key, or a bad one, where one is needed.
    #[error("the fal keys cannot be used")]
    Key(#[from] KeyError),
    /// The access keys of the direct door cannot be read.
    #[error("the access keys in {place} cannot be used (guard.keys)")]
    AccessKeys {
        /// Where they were looked for: a variable's name or a path.
        place: String,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The keys that sign tokens cannot be used.
    #[error("the token keys cannot be used (guard.tokens.keys)")]
    Tokens(#[from] TokenKeyError),
    /// The origins of pages cannot be used.
    #[error("the origins cannot be used (guard.origins)")]
    Origins(#[from] OriginFault),
    /// The limits cannot be kept.
    #[error("the limits cannot be kept")]
    Limits(#[from] LimitError),
    /// The upstream's settings cannot be used.
    #[error("the upstream cannot be set up")]
    Upstream(#[from] crate::upstream::ClientError),
    /// The host's settings cannot be used.
    #[error("fetching pictures cannot be set up")]
    Fetch(#[from] crate::host::fetch::FetchSetupError),
}

/// Puts the rooms together and shows their metrics in `registry`.
///
/// # Errors
/// [`AssembleError`] for whatever of the configuration only shows in use: nothing is left out silently.
pub fn assemble(
    config: &Config,
    outside: &Outside<'_>,
    registry: &mut Registry,
) -> Result<Assembled<impl GateService + use<>>, AssembleError> {
    let keeps_uploads = match config.gate.uploads {
        Uploads::Auto | Uploads::Gate => outside.engine.is_some(),
        Uploads::Upstream => false,
    };
    let table = Arc::new(RouteTable::new(config.route.clone(), keeps_uploads));
    let keys = open_keys(config, outside)?;
    let memory = MemoryBudget::new(config.gate.bodies_bytes.get());
    let (drain, drained) = watch::channel(false);
    let limits = limits(config, registry)?;
    let frames = limits.clone().map(|limits| Arc::new(FrameLimits { limits, prices: Prices::new(&config.limits) }));
    let upstream = upstream(config, keys.as_ref(), (&memory, drained.clone(), frames.clone()), registry)?;
    let host = host(config, outside, (drained, frames), registry)?;
    let files = match &host {
        Optional::Some(host) => Optional::Some(host.files()),
        Optional::None(problem) => Optional::None(problem.clone()),
    };
    let tokens =
        config.why_tokens_are_signed().map(|_| Tokens::open(&config.guard.tokens, outside.look_up)).transpose()?;
    if let Some(tokens) = &tokens {
        tokens.show(registry);
    }
    let steer = Steer::new(Arc::clone(&table), host, upstream, config.host.max_body_bytes.get())
        .with_memory(memory.clone())
        .with_tokens(tokens.clone().map(TokenService::new));

    let allow = |targets: TargetSettings, spilling: Reach| {
        let mut allowed = AllowedTargets::new(targets).with_rows(table.reaches(spilling));
        if tokens.is_some() {
            allowed = allowed.with_issuers(table.issuers());
        }
        if keeps_uploads { allowed.with_hosted_storage() } else { allowed }
    };
    let pages = OriginsLayer::new(&config.guard.origins)?;
    let proxied = allow(config.proxy.targets.clone(), Reach::Fal);
    // Whoever comes without a key comes to the engine and no further; the owner's bill stays closed.
    let open_allowed = allow(TargetSettings::default(), Reach::Here);
    let access_keys = access_keys(config, outside)?;
    let (access, direct_allowed) = match access_keys.clone() {
        Some(keys) => (AccessKeysLayer::new(keys), proxied.clone()),
        None => (AccessKeysLayer::open(), open_allowed.clone()),
    };
    let entrance = Entrance { allowed: proxied.clone(), open: open_allowed, tokens: tokens.clone(), keys: access_keys };
    let limited = match limits {
        Some(limits) => LimitLayer::new(limits, Prices::new(&config.limits)),
        None => LimitLayer::off(),
    };
    let limited = limited.layer(steer);
    let sockets = limited.clone();
    let calls = FalProxyLayer::new(config.proxy.clone(), proxied).with_memory(memory).layer(limited);
    let guarded = PublicHealth { guarded: access.layer(calls.clone()), open: calls.clone(), table };
    let direct = DirectDoor::new(guarded, Arc::new(direct_allowed));
    // Rules for inputs hold for the frames of sockets, not for their handshake: it goes straight to the steer.
    let direct = pages.layer(socket_door(config, (sockets, direct), entrance, registry));
    let proxy = pages.layer(calls);
    let token = config.proxy.enabled.then(|| TokenRoute::new(proxy.clone()));

    let readiness = readiness(outside.engine.clone());
    let mut proxy_paths = Vec::new();
    if config.proxy.enabled {
        proxy_paths.push(PROXY_PATH.to_owned());
    }
    if config.proxy.old_path {
        proxy_paths.push(OLD_PROXY_PATH.to_owned());
    }
    let playground = Playground::new(&config.playground);
    let (readiness_there, proxy_paths) = (readiness.clone(), proxy_paths.into());
    let routes = Routes { proxy, token, files, direct, playground, readiness: readiness_there, proxy_paths };
    let metrics = HttpMetrics::register(registry);
    let layers = Layers {
        client_addr: ClientAddrLayer::new(config.guard.address.clone()),
        log: RequestLogLayer::new(outside.log.clone(), config.telemetry.format, metrics, subject),
        origins: Arc::new(origins(config, outside.engine.is_some())),
    };
    Ok(Assembled { service: stack(&layers, routes), readiness, keys, tokens, drain })
}

/// The keys, where any call may go upstream. Without one, a gate that only hosts needs none.
fn open_keys(config: &Config, outside: &Outside<'_>) -> Result<Option<KeyRing>, KeyError> {
    match KeyRing::open(&config.upstream.keys, outside.look_up) {
        Ok(keys) => Ok(Some(keys)),
        Err(KeyError::Missing { .. }) if config.why_a_key_is_needed().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The limits, where the settings have any.
fn limits(config: &Config, registry: &mut Registry) -> Result<Option<Limits>, LimitError> {
    if config.limits.is_empty() {
        return Ok(None);
    }
    let limits = Limits::open(&config.limits)?;
    limits.register(registry);
    Ok(Some(limits))
}

/// The access keys of the direct door; `None` where the settings name none.
fn access_keys(config: &Config, outside: &Outside<'_>) -> Result<Option<AccessKeys>, AssembleError> {
    let settings = &config.guard.keys;
    let mut texts = Vec::new();
    let mut judged = |place: String, text: String| match AccessKeys::read([text.as_str()]) {
        Ok(_) => {
            texts.push(text);
            Ok(())
        }
        Err(cause) => Err(AssembleError::AccessKeys { place, cause: cause.into() }),
    };
    if let Some(name) = &settings.env {
        let text = (outside.look_up)(name).ok_or_else(|| AssembleError::AccessKeys {
            place: name.clone(),
            cause: "the variable is not set".into(),
        })?;
        judged(name.clone(), text)?;
    }
    if let Some(path) = &settings.file {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| AssembleError::AccessKeys { place: path.display().to_string(), cause: cause.into() })?;
        judged(path.display().to_string(), text)?;
    }
    if settings.is_open() {
        return Ok(None);
    }
    let keys = AccessKeys::read(texts.iter().map(String::as_str));
    keys.map(Some).map_err(|cause| AssembleError::AccessKeys { place: "all lists".to_owned(), cause: cause.into() })
}

/// Opens what [`assemble`] opens from files and variables, and says all that fails.
pub(super) fn rehearse(config: &Config, look_up: &dyn Fn(&str) -> Option<String>) -> Vec<AssembleError> {
    let outside = Outside { engine: None, log: None, look_up };
    let fetch = config.engine.enabled.then(|| Fetcher::new(config.host.fetch.clone()));
    [
        open_keys(config, &outside).err().map(AssembleError::from),
        access_keys(config, &outside).err(),
        OriginsLayer::new(&config.guard.origins).err().map(AssembleError::from),
        UpstreamClient::new(config.upstream.clone()).err().map(AssembleError::from),
        fetch.and_then(Result::err).map(AssembleError::from),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn upstream(
    config: &Config,
    keys: Option<&KeyRing>,
    (memory, drained, frames): (&MemoryBudget, watch::Receiver<bool>, Option<Arc<FrameLimits>>),
    registry: &mut Registry,
) -> Result<
    Optional<
        impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + use<>,
    >,
    AssembleError,
> {
    let Some(keys) = keys else {
        let problem =
            Problem::new(StatusCode::UNAUTHORIZED, "this gate has no fal key and answers only for its own engine");
        return Ok(Optional::None(problem));
    };
    let metrics = UpstreamMetrics::default();
    metrics.register(registry);
    let relayed = RelayMetrics::default();
    relayed.register(registry);
    let client = UpstreamClient::with_metrics(config.upstream.clone(), metrics.clone())?;
    let key = FalKeyLayer::new(keys.clone()).with_replay_bytes(config.upstream.key_replay_bytes);
    let key = key.with_memory(memory.clone()).with_metrics(metrics);
    let rules = Arc::new(SocketRules(Policies::new(config.proxy.policy.clone())));
    let relay = SocketRelayLayer::new(&config.upstream, keys.clone())?;
    let mut relay = relay.with_metrics(relayed).with_rules(rules).with_drain(drained);
    if let Some(frames) = frames {
        relay = relay.with_budget(frames);
    }
    // The relay mints fal's tokens through the client with the key, so it stands outside of it.
    Ok(Optional::Some(ServiceBuilder::new().layer(relay).layer(key).service(client)))
}

fn socket_door<S, D>(
    config: &Config,
    (sockets, direct): (S, D),
    entrance: Entrance,
    registry: &mut Registry,
) -> SocketDoor<S, D> {
    let limits = &config.gate.sockets;
    let register = Connections::new(limits.open.get(), limits.per_address.get());
    let metrics = SocketDoorMetrics::default();
    metrics.register(registry);
    SocketDoor::new(sockets, direct, Arc::new(entrance), register).with_metrics(metrics)
}

fn host(
    config: &Config,
    outside: &Outside<'_>,
    (drain, frames): (watch::Receiver<bool>, Option<Arc<FrameLimits>>),
    registry: &mut Registry,
) -> Result<Optional<HostService>, AssembleError> {
    let Some(engine) = &outside.engine else {
        return Ok(Optional::None(Problem::new(StatusCode::NOT_FOUND, "this gate has no engine and keeps no files")));
    };
    let metrics = SocketMetrics::default();
    metrics.register(registry);
    let mut host = HostService::new(engine.clone(), config.host.clone())?
        .with_posterior(config.engine.posterior)
        .with_socket_metrics(metrics)
        .with_drain(drain);
    if let Some(frames) = frames {
        host = host.with_frame_budget(frames);
    }
    if config.host.waiting_room.enabled {
        let metrics = WaitingMetrics::default();
        metrics.register(registry);
        host = host.with_waiting_room(WaitingRoom::new(&config.host.waiting_room, metrics));
    }
    if let Some(origin) = &config.gate.public_url {
        host = host.with_public_origin(PublicOrigin(origin.clone()));
    }
    Ok(Optional::Some(host))
}

fn origins(config: &Config, has_engine: bool) -> Origins {
    match &config.gate.public_url {
        _ if !has_engine => Origins::Unused,
        Some(origin) => Origins::Fixed(PublicOrigin(origin.clone())),
        None => Origins::FromHost { scheme: if config.gate.tls.is_some() { "https" } else { "http" } },
    }
}

fn readiness(engine: Option<Engine>) -> Readiness {
    let state = engine.map(|engine| engine.state());
    Readiness::new(move || match state.as_ref().map(|state| state.borrow().clone()) {
        None | Some(EngineState::Ready) => EngineReadiness::Ready,
        Some(EngineState::Loading { progress }) => {
            EngineReadiness::Loading(progress.map_or_else(String::new, |progress| progress.part.into_owned()))
        }
        Some(EngineState::Failed(_) | EngineState::Stopped) => EngineReadiness::Failed,
    })
}
