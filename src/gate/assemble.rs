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
use super::identity::{self, IdentityError, OpenIdentity, Rules};
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
    AccessKeys, CallersLayer, ClientAddrLayer, IdentityLayer, LimitError, LimitLayer, Limits, NamelessReach,
    OriginFault, OriginsLayer, Prices, RedisStore, TokenKeyError, TokenService, Tokens,
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
    /// The access keys, where there are any.
    pub access_keys: Option<AccessKeys>,
    /// What signs and checks tokens, where there is anything to open with one.
    pub tokens: Option<Tokens>,
    /// The limits, and what calls cost: both can be replaced.
    pub limits: (Limits, Prices),
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
    /// It cannot be found out who calls.
    #[error(transparent)]
    Identity(#[from] IdentityError),
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
pub async fn assemble(
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
    let OpenIdentity { identity, keys: access_keys, human } = identity::open(config, outside.look_up).await?;
    if !identity.is_empty() {
        identity.register(registry);
    }
    let callers = Rules::of(config, &table);
    let memory = MemoryBudget::new(config.gate.bodies_bytes.get());
    let (drain, drained) = watch::channel(false);
    let limits = limits(config, outside, registry).await?;
    let prices = Prices::new(&config.limits);
    let frames = Arc::new(FrameLimits { limits: limits.clone(), prices: prices.clone() });
    let upstream = upstream(config, keys.as_ref(), (&memory, drained.clone(), Arc::clone(&frames)), registry)?;
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
    // Whoever comes without a name comes to the engine and no further; the owner's bill stays closed.
    let open_allowed = allow(TargetSettings::default(), Reach::Here);
    let direct_allowed = if identity.names_callers() { proxied.clone() } else { open_allowed.clone() };
    let entrance = Entrance {
        allowed: proxied.clone(),
        open: open_allowed,
        tokens: tokens.clone(),
        keys: access_keys.clone(),
        callers: Arc::clone(&callers.proxied),
    };
    let limited = LimitLayer::new(limits.clone(), prices.clone()).layer(steer);
    let sockets = limited.clone();
    let plain = FalProxyLayer::new(config.proxy.clone(), proxied).with_memory(memory);
    let who = IdentityLayer::new(identity);
    // At the direct door the call is known before the proxy's layer, at the key proxy after it.
    let at_door = CallersLayer::new(callers.direct, NamelessReach::Here);
    let behind_proxy = CallersLayer::new(callers.proxied, NamelessReach::AsAdmitted);
    let open = plain.layer(limited.clone());
    let guarded = PublicHealth { guarded: who.layer(at_door.layer(open.clone())), open, table };
    let direct = DirectDoor::new(guarded, Arc::new(direct_allowed));
    // Rules for inputs hold for the frames of sockets, not for their handshake: it goes straight to the steer.
    let direct = pages.layer(socket_door(config, (sockets, direct), entrance, registry));
    let who = who.with_cookies();
    let proxy = pages.layer(who.layer(plain.layer(behind_proxy.layer(limited))));
    let human = human.map(|human| Arc::new(pages.layer(human)));
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
    let routes =
        Routes { proxy, token, files, direct, human, who, playground, readiness: readiness_there, proxy_paths };
    let metrics = HttpMetrics::register(registry);
    let layers = Layers {
        client_addr: ClientAddrLayer::new(config.guard.address.clone()),
        log: RequestLogLayer::new(outside.log.clone(), config.telemetry.format, metrics, subject),
        origins: Arc::new(origins(config, outside.engine.is_some())),
    };
    Ok(Assembled {
        service: stack(&layers, routes),
        readiness,
        keys,
        access_keys,
        tokens,
        limits: (limits, prices),
        drain,
    })
}

/// The keys, where any call may go upstream. Without one, a gate that only hosts needs none.
fn open_keys(config: &Config, outside: &Outside<'_>) -> Result<Option<KeyRing>, KeyError> {
    match KeyRing::open(&config.upstream.keys, outside.look_up) {
        Ok(keys) => Ok(Some(keys)),
        Err(KeyError::Missing { .. }) if config.why_a_key_is_needed().is_none() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The limits. They are there without rows too: a reload may bring some.
async fn limits(config: &Config, outside: &Outside<'_>, registry: &mut Registry) -> Result<Limits, LimitError> {
    let limits = match RedisStore::connect(&config.limits, outside.look_up).await? {
        Some(store) => Limits::open_shared(&config.limits, store)?,
        None => Limits::open(&config.limits)?,
    };
    limits.register(registry);
    Ok(limits)
}

/// Opens what [`assemble`] opens from files and variables, and says all that fails.
pub(super) async fn rehearse(config: &Config, look_up: &dyn Fn(&str) -> Option<String>) -> Vec<AssembleError> {
    let outside = Outside { engine: None, log: None, look_up };
    let fetch = config.engine.enabled.then(|| Fetcher::new(config.host.fetch.clone()));
    let identity = identity::rehearse(config, look_up).await.into_iter().map(AssembleError::from);
    let limits = match Limits::rehearse(&config.limits) {
        Ok(()) => RedisStore::connect(&config.limits, look_up).await.map(drop),
        Err(error) => Err(error),
    };
    let others = [
        open_keys(config, &outside).err().map(AssembleError::from),
        OriginsLayer::new(&config.guard.origins).err().map(AssembleError::from),
        limits.err().map(AssembleError::from),
        UpstreamClient::new(config.upstream.clone()).err().map(AssembleError::from),
        fetch.and_then(Result::err).map(AssembleError::from),
    ];
    identity.chain(others.into_iter().flatten()).collect()
}

fn upstream(
    config: &Config,
    keys: Option<&KeyRing>,
    (memory, drained, frames): (&MemoryBudget, watch::Receiver<bool>, Arc<FrameLimits>),
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
    let relay = relay.with_metrics(relayed).with_rules(rules).with_drain(drained).with_budget(frames);
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
    (drain, frames): (watch::Receiver<bool>, Arc<FrameLimits>),
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
        .with_drain(drain)
        .with_frame_budget(frames);
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
