//! Pages with a socket: what they send, and what they see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use falgate::engine::{Engine, EngineSettings, FakeBackend, FakeControl, FakeSettings};
use falgate::gate::accept::{DrainSettings, EdgeServer, LimitSettings, RefusalLayer};
use falgate::guard::{Caller, Grant, Tier, TokenKeySource, TokenSettings, Tokens};
use falgate::host::realtime::{FrameBudget, RealtimeSettings};
use falgate::host::waiting::{WaitingMetrics, WaitingRoom, WaitingSettings};
use falgate::host::{HostService, HostSettings};
use falgate::wire::{AllowedTargets, Body, Door, EndpointPattern, HostClass, PlainPath, TargetSettings};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Method, Request};
use rmpv::Value as Pack;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tower::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;

use crate::engine_support::within;
use crate::gate_support::{Gate, TOKEN_KEYS};
use crate::host_desk::{data_uri, encoded, png};

pub(crate) const SOCKET: &str = "/fal-ai/lcm-sd15-i2i/realtime";
pub(crate) const UNAUTHORIZED: &str = r#"{"status":"error","error":"Unauthorized"}"#;
pub(crate) const TIMEOUT: &str =
    r#"{"type":"x-fal-error","error":"TIMEOUT","reason":"no inputs, reconnect when needed!"}"#;

/// A minter with the keys of the gates of these tests.
pub(crate) fn tokens() -> Tokens {
    let settings = TokenSettings { keys: TokenKeySource::Env("TOKEN_KEYS".to_owned()), ..TokenSettings::default() };
    Tokens::open(&settings, |_| Some(TOKEN_KEYS.to_owned())).unwrap()
}

/// A token for these apps, minted some time ago.
pub(crate) fn token_from(apps: &[&str], age: Duration) -> String {
    let grant = Grant {
        caller: Some("painter".into()),
        tier: None,
        apps: apps.iter().map(|&app| app.to_owned()).collect(),
        life: Some(Duration::from_secs(120)),
        origin: None,
        now: SystemTime::now() - age,
    };
    tokens().mint(&grant).unwrap().token.expose_secret().to_owned()
}

/// A good token.
pub(crate) fn token() -> String {
    token_from(&["lcm-sd15-i2i"], Duration::ZERO)
}

/// The socket's path with a good token.
pub(crate) fn with_token(path: &str) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}fal_jwt_token={}", token())
}

/// What a handshake sends beside what every one does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes<'a> {
    pub(crate) host: Option<&'a str>,
    pub(crate) headers: &'a [(&'static str, &'a str)],
}

/// A page with an open socket.
pub(crate) struct Page<S = TcpStream> {
    pub(crate) socket: WebSocketStream<S>,
    pub(crate) headers: HeaderMap,
    /// How long it waits for a message. On paused time that must be longer than anything the gate waits for.
    patience: Duration,
}

impl Page {
    /// Opens a socket with a good token.
    pub(crate) async fn open(gate: &Gate) -> Self {
        Self::at(gate.address, &with_token(SOCKET)).await
    }

    pub(crate) async fn at(address: SocketAddr, path: &str) -> Self {
        Self::wishing(address, path, &Wishes::default()).await.unwrap()
    }

    /// Opens a socket, or gives the status that refused it.
    pub(crate) async fn wishing(address: SocketAddr, path: &str, wishes: &Wishes<'_>) -> Result<Self, u16> {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut page = Self::over(stream, path, wishes).await?;
        page.patience = Duration::from_secs(60);
        Ok(page)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Page<S> {
    /// Opens a socket on a stream.
    pub(crate) async fn over(stream: S, path: &str, wishes: &Wishes<'_>) -> Result<Self, u16> {
        let host = wishes.host.unwrap_or("gate.test");
        let mut request = format!("ws://{host}{path}").into_client_request().unwrap();
        for (name, value) in wishes.headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match client_async(request, stream).await {
            Ok((socket, answer)) => {
                let patience = Duration::from_secs(1_000_000);
                Ok(Self { socket, headers: answer.headers().clone(), patience })
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn say(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Sends an input as JSON text.
    pub(crate) async fn text(&mut self, input: &Value) {
        self.say(Message::text(input.to_string())).await;
    }

    /// Sends an input as MessagePack.
    pub(crate) async fn pack(&mut self, fields: &[(&str, Pack)]) {
        self.say(Message::binary(packed(fields))).await;
    }

    /// The next message that is no ping and no pong; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(self.patience, self.socket.next());
            match next.await.expect("something comes, or the end") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return Some(message),
                None | Some(Err(_)) => return None,
            }
        }
    }

    /// The next message, which is JSON text.
    pub(crate) async fn next_text(&mut self) -> Value {
        match self.next().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}")),
            other => panic!("{other:?}"),
        }
    }

    /// The next message, which is MessagePack.
    pub(crate) async fn next_pack(&mut self) -> Pack {
        match self.next().await {
            Some(Message::Binary(frame)) => rmpv::decode::read_value(&mut &frame[..]).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The close that comes next, as its code.
    pub(crate) async fn close_code(&mut self) -> u16 {
        match self.next().await {
            Some(Message::Close(Some(CloseFrame { code, .. }))) => code.into(),
            other => panic!("{other:?}"),
        }
    }

    /// The texts up to the close, and its code.
    pub(crate) async fn last_words(&mut self) -> (Vec<String>, u16) {
        let mut words = Vec::new();
        loop {
            match self.next().await {
                Some(Message::Text(text)) => words.push(text.to_string()),
                Some(Message::Close(Some(CloseFrame { code, .. }))) => return (words, code.into()),
                other => panic!("{other:?} after {words:?}"),
            }
        }
    }
}

/// A small input as pages for the blog's app send it.
pub(crate) fn stroke(request_id: &str) -> Value {
    json!({
        "prompt": "a cat", "image_url": data_uri("image/png", &png(64, 64)), "seed": 42, "sync_mode": true,
        "request_id": request_id,
    })
}

/// The fields of a small binary input with a picture in bytes.
pub(crate) fn packed_stroke(request_id: &str) -> Vec<(&'static str, Pack)> {
    vec![
        ("prompt", Pack::from("a cat")),
        ("image_bytes", Pack::Binary(jpeg(64))),
        ("seed", Pack::from(42)),
        ("request_id", Pack::from(request_id)),
    ]
}

pub(crate) fn packed(fields: &[(&str, Pack)]) -> Bytes {
    let map = fields.iter().map(|(name, value)| (Pack::from(*name), value.clone())).collect();
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &Pack::Map(map)).unwrap();
    out.into()
}

pub(crate) fn jpeg(side: u32) -> Vec<u8> {
    encoded(side, side, image::ImageFormat::Jpeg)
}

/// A host over a fake engine behind connections in memory, for tests on paused time.
pub(crate) struct Stage {
    host: HostService,
    server: EdgeServer,
    pub(crate) control: FakeControl,
    pub(crate) drain: watch::Sender<bool>,
}

impl Stage {
    pub(crate) async fn with(realtime: RealtimeSettings) -> Self {
        Self::set_up(realtime, |host| host).await
    }

    /// A stage whose inputs are charged to a budget.
    pub(crate) async fn charging(budget: Arc<dyn FrameBudget>) -> Self {
        Self::set_up(RealtimeSettings::default(), |host| host.with_frame_budget(budget)).await
    }

    /// A stage whose inputs are charged, and whose callers need places.
    pub(crate) async fn charging_places(budget: Arc<dyn FrameBudget>, settings: &WaitingSettings) -> Self {
        let room = WaitingRoom::new(settings, WaitingMetrics::default());
        let change = |host: HostService| host.with_frame_budget(budget).with_waiting_room(room);
        Self::set_up(RealtimeSettings::default(), change).await
    }

    /// A stage whose callers need places.
    pub(crate) async fn with_places(settings: &WaitingSettings) -> Self {
        let room = WaitingRoom::new(settings, WaitingMetrics::default());
        Self::set_up(RealtimeSettings::default(), |host| host.with_waiting_room(room)).await
    }

    async fn set_up(realtime: RealtimeSettings, change: impl FnOnce(HostService) -> HostService) -> Self {
        let (opened, control) = FakeBackend::open(FakeSettings::default().with_checker(255));
        let engine = Engine::start(EngineSettings { linger_ms: 0, ..EngineSettings::default() }, move |_| Ok(opened));
        engine.ready().await.unwrap();
        control.clear();
        let (drain, drained) = watch::channel(false);
        let settings = HostSettings { realtime, ..HostSettings::default() };
        let host = change(HostService::new(engine, settings).unwrap().with_drain(drained));
        let server = EdgeServer::new(LimitSettings::default(), DrainSettings::default());
        Self { host, server, control, drain }
    }

    /// Sockets whose connection still counts.
    pub(crate) fn open(&self) -> usize {
        self.server.connections().open()
    }

    /// A page whose connection holds `room` bytes in each direction.
    pub(crate) async fn page(&self, room: usize, query: &str) -> Page<DuplexStream> {
        let (near, far) = tokio::io::duplex(room);
        let peer: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let pass = self.server.admit(peer).unwrap();
        let (server, host) = (self.server.clone(), self.host.clone());
        let service = RefusalLayer.layer(service_fn(move |mut request: Request<Body>| {
            let host = host.clone();
            request.extensions_mut().insert(Tier("pro".into()));
            let query = request.uri().query().unwrap_or_default();
            if let Some((_, name)) = query.split_once("caller=") {
                let name = name.into();
                request.extensions_mut().insert(Caller { name });
            }
            async move { host.oneshot(admitted(request)).await }
        }));
        tokio::spawn(async move { server.serve_stream(far, peer, pass, service).await });
        Page::over(near, &format!("{SOCKET}{query}"), &Wishes::default()).await.unwrap()
    }
}

fn admitted(mut request: Request<Body>) -> Request<Body> {
    let endpoints = vec![EndpointPattern::parse("**").unwrap()];
    let allowed = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() });
    let plain = PlainPath {
        class: HostClass::Run,
        legacy_label: None,
        method: &Method::GET,
        path_and_query: SOCKET,
        door: Door::Socket,
    };
    let target = allowed.admit_path(&plain).unwrap();
    request.extensions_mut().insert(target);
    request
}

/// Waits until a line of the gate's metrics has this number.
pub(crate) async fn until_metric(gate: &Gate, line: &str, number: f64) {
    within(async { while metric(gate, line).await != number {} }).await;
}

/// The number behind a line of the gate's metrics, 0 without one.
pub(crate) async fn metric(gate: &Gate, line: &str) -> f64 {
    let mut admin = crate::gate_support::Line::to(gate.admin).await;
    let answer = admin.send(crate::gate_support::asked(http::Method::GET, "/metrics", &[], "")).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.map_or(0.0, |number| number.trim().parse().unwrap())
}
