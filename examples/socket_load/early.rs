//! Temporary.
use std::convert::Infallible;

use falgate::gate::accept::{DrainSettings, EdgeServer, LimitSettings, Listener};
use falgate::upstream::{FalKeyLayer, KeyRing, SocketRelayLayer, UpstreamClient, UpstreamSettings};
use falgate::wire::{AllowedTargets, Body, Door, EndpointPattern, HostClass, PlainPath, TargetSettings};
use http::{Request, Response};
use tower::{Service as _, ServiceBuilder};

use super::arguments::Early;
use super::error::LoadError;

pub(crate) async fn run(task: &Early) -> Result<(), LoadError> {
    let mut settings: UpstreamSettings = toml::from_str(&format!(
        "allow_plain_loopback = true\naddresses = {{ run = \"http://{0}\", rest = \"http://{0}\" }}\n[sockets]\nframes_per_s = 1000000\nframes_burst = 1000000\nbytes_per_s = 100000000000\nbytes_burst=100000000000\n",
        task.upstream
    ))
    .map_err(|e| LoadError::Setup(e.to_string()))?;
    settings.key_replay_bytes = 0;
    let keys = KeyRing::single("a:b".to_owned()).map_err(|e| LoadError::Setup(e.to_string()))?;
    let bad = |e: &dyn std::fmt::Display| LoadError::Setup(e.to_string());
    let relay = ServiceBuilder::new()
        .layer(SocketRelayLayer::new(&settings, keys.clone()).map_err(|e| bad(&e))?)
        .layer(FalKeyLayer::new(keys))
        .service(UpstreamClient::new(settings).map_err(|e| bad(&e))?);
    let limits: LimitSettings =
        toml::from_str("connections = 20000\nconnections_per_address=20000").map_err(|e| bad(&e))?;
    let listener = Listener::bind(task.listen, &limits)?;
    let server = EdgeServer::new(limits, DrainSettings::default());
    let endpoints = vec![EndpointPattern::parse("**").map_err(|e| bad(&e))?];
    let allowed = std::sync::Arc::new(AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() }));
    let engine = {
        let (opened, _c) = falgate::engine::FakeBackend::open(falgate::engine::FakeSettings {
            decode: std::time::Duration::from_millis(20),
            ..Default::default()
        });
        falgate::engine::Engine::start(falgate::engine::EngineSettings::default(), move |_| Ok(opened))
    };
    let host = falgate::host::HostService::new(engine, falgate::host::HostSettings::default()).map_err(|e| bad(&e))?;
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let mut relay = relay.clone();
        let mut host = host.clone();
        let path_and_query = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let plain = PlainPath {
            class: HostClass::Run,
            legacy_label: None,
            method: request.method(),
            path_and_query: &path_and_query,
            door: Door::Socket,
        };
        let target = allowed.admit_path(&plain);
        if let Ok(target) = target {
            request.extensions_mut().insert(target);
        }
        async move {
            if path_and_query.contains("lcm") {
                return host.call(request).await;
            }
            Ok::<Response<Body>, Infallible>(relay.call(request).await.unwrap_or_else(|n| match n {}))
        }
    });
    server.serve(listener, service, std::future::pending()).await;
    Ok(())
}
