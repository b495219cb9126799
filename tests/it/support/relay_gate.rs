//! A relay behind a plain HTTP server, as little of a gate as it needs, and a client of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use falgate::telemetry::CallerNote;
use falgate::upstream::{
    FalKeyLayer, KeyRing, RelayMetrics, SocketRelayLayer, SocketSettings, UpstreamClient, UpstreamSettings,
};
use falgate::wire::{AllowedTargets, Body, Door, EndpointPattern, HostClass, PlainPath, SocketPass, TargetSettings};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tower::{Service as _, ServiceBuilder};

use super::fake_sockets::FakeSockets;
use super::proxy_stack::{CANARY, upstream};
use crate::engine_support::within;

pub(crate) const PATH: &str = "/fal-ai/lcm-sd15-i2i/realtime?max_buffering=2";

/// A relay that serves.
pub(crate) struct RelayGate {
    pub(crate) address: SocketAddr,
    registry: Registry,
    drain: watch::Sender<bool>,
    /// Passes of sockets that are held.
    passes: Arc<watch::Sender<usize>>,
}

/// A place in a count.
struct Place(Arc<watch::Sender<usize>>);

impl Place {
    fn taken(passes: &Arc<watch::Sender<usize>>) -> Self {
        passes.send_modify(|passes| *passes += 1);
        Self(Arc::clone(passes))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|passes| *passes -= 1);
    }
}

/// What a relay is made of, before it serves.
pub(crate) fn settings(fal: &FakeSockets, sockets: SocketSettings) -> UpstreamSettings {
    UpstreamSettings { ca_file: fal.ca_file(), sockets, ..upstream(&fal.url()) }
}

impl RelayGate {
    /// A relay to this fake with the canary key and these settings for sockets.
    pub(crate) async fn to(fal: &FakeSockets, sockets: SocketSettings) -> Self {
        Self::with(settings(fal, sockets), KeyRing::single(CANARY.to_owned()).unwrap(), |layer| layer).await
    }

    /// A relay with more than that.
    pub(crate) async fn with(
        settings: UpstreamSettings,
        keys: KeyRing,
        adorn: impl FnOnce(SocketRelayLayer) -> SocketRelayLayer,
    ) -> Self {
        let metrics = RelayMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let (drain, drains) = watch::channel(false);
        let layer = SocketRelayLayer::new(&settings, keys.clone()).unwrap().with_metrics(metrics).with_drain(drains);
        let relay = ServiceBuilder::new()
            .layer(adorn(layer))
            .layer(FalKeyLayer::new(keys))
            .service(UpstreamClient::new(settings).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passes = Arc::new(watch::Sender::new(0));
        let counted = Arc::clone(&passes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Paused time does not wait for what the kernel holds back.
                stream.set_nodelay(true).unwrap();
                let (relay, passes) = (relay.clone(), Arc::clone(&counted));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (mut relay, mut request) = (relay.clone(), admitted(request));
                    request.extensions_mut().insert(SocketPass::new(Place::taken(&passes)));
                    request.extensions_mut().insert(CallerNote("painter".into()));
                    async move { Ok::<Response<Body>, Infallible>(relay.call(request).await.unwrap()) }
                });
                tokio::spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        Self { address, registry, drain, passes }
    }

    /// A client's socket.
    pub(crate) async fn connect(&self) -> Client {
        self.connect_to(PATH).await
    }

    pub(crate) async fn connect_to(&self, path: &str) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, answer) = within(client_async(format!("ws://gate.test{path}"), stream)).await.unwrap();
        let headers = format!("{:?}", answer.headers());
        assert!(!headers.contains("canary"), "{headers}");
        Client { socket }
    }

    /// Both ends of a fresh socket.
    pub(crate) async fn pair(&self, fal: &FakeSockets) -> (Client, super::fake_sockets::FalSocket) {
        tokio::join!(self.connect(), fal.socket())
    }

    pub(crate) fn drain(&self) {
        self.drain.send_replace(true);
    }

    /// The value of a metric's line that begins like this.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let found = text.lines().find_map(|known| known.strip_prefix(line));
        found.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Passes of sockets that are held.
    pub(crate) fn passes(&self) -> usize {
        *self.passes.borrow()
    }

    /// Waits until no pass is held.
    pub(crate) async fn no_pass_is_held(&self) {
        within(self.passes.subscribe().wait_for(|passes| *passes == 0)).await.unwrap();
    }

    /// Waits until no socket is open.
    pub(crate) async fn all_ended(&self) {
        self.until("falgate_relay_open", 0.0).await;
    }

    /// Waits until a metric has this value.
    pub(crate) async fn until(&self, line: &str, value: f64) {
        within(async {
            while self.metric(line) != value {
                // A timer and no yield: where time is paused, it goes on only while nobody is busy.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

fn admitted(request: Request<Incoming>) -> Request<Body> {
    let endpoints = vec![EndpointPattern::parse("**").unwrap()];
    let allowed = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() });
    let path_and_query = request.uri().path_and_query().unwrap().as_str().to_owned();
    let plain = PlainPath {
        class: HostClass::Run,
        legacy_label: None,
        method: request.method(),
        path_and_query: &path_and_query,
        door: Door::Socket,
    };
    let target = allowed.admit_path(&plain).unwrap();
    let mut request = request.map(Body::from);
    request.extensions_mut().insert(target);
    request
}

/// A client's side of a socket.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Client {
    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        within(self.socket.send(message.into())).await.unwrap();
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Message {
        next(&mut self.socket).await
    }

    /// Checks that the next message is this text.
    pub(crate) async fn hears(&mut self, text: &str) {
        assert_eq!(self.next().await, Message::text(text));
    }

    /// The next text, as JSON.
    pub(crate) async fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(self.next().await.to_text().unwrap()).unwrap()
    }

    /// Checks that the socket is closed with this code next, and cleanly; gives the sentence.
    pub(crate) async fn closes(&mut self, code: u16) -> String {
        let said = closed(&mut self.socket).await.expect("a close without a reason");
        assert_eq!(said.code, CloseCode::from(code), "{said:?}");
        assert!(within(self.socket.next()).await.is_none_or(|end| matches!(end, Err(Error::ConnectionClosed))));
        said.reason.to_string()
    }
}

/// The next message of a socket, pings and pongs left out.
pub(crate) async fn next<S>(socket: &mut WebSocketStream<S>) -> Message
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match within(socket.next()).await.expect("the socket ended").expect("the socket broke") {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

/// The close that comes next.
pub(crate) async fn closed<S>(socket: &mut WebSocketStream<S>) -> Option<CloseFrame>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match next(socket).await {
        Message::Close(reason) => reason,
        other => panic!("no close but {other:?}"),
    }
}
