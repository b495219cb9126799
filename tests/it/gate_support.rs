//! A whole gate in this process: configuration text in, a port out, a fake device and a fake fal behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use falgate::config::{Config, Environment};
use falgate::engine::{Engine, FakeBackend, FakeControl, FakeSettings};
use falgate::gate::accept::DrainReport;
use falgate::gate::{Orders, Outside, ServeError, bind};
use falgate::telemetry::LogWriter;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::engine_support::within;
use crate::host_desk::Answer;

/// The key that only the fake fal may see.
pub(crate) const FAL_KEY: &str = "canary-key-id:canary-key-secret";
/// What every gate of these tests signs its tokens with.
pub(crate) const TOKEN_KEYS: &str = "HS256 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const APP: &str = "/fal-ai/lcm-sd15-i2i";
pub(crate) const PROXY: &str = "/api/fal/proxy";
pub(crate) const RUN: &str = "https://fal.run/fal-ai/lcm-sd15-i2i";

/// An engine behind one route, for a file that begins with it.
pub(crate) const ENGINE: &str = r#"
[engine]
enabled = true
model = "fake"
warm_up_px = 64
linger_ms = 0
[[route]]
endpoint = "fal-ai/lcm-sd15-i2i"
to = "engine"
"#;

/// The same route, with fal behind a full queue.
pub(crate) fn spilling(queue: usize) -> String {
    format!("{ENGINE}spill = \"upstream\"\n").replace("linger_ms = 0", &format!("linger_ms = 0\nqueue = {queue}"))
}

/// Settings that reach `url` for every class of fal's hosts and admit `fal-ai/flux`.
pub(crate) fn fal_at(url: &str) -> String {
    format!(
        "[upstream]\nallow_plain_loopback = true\naddresses = {{ run = \"{url}\", queue = \"{url}\", rest = \"{url}\" }}\n\
         [proxy.targets]\nendpoints = [\"fal-ai/flux\", \"fal-ai/flux/**\"]\n"
    )
}

/// A gate that serves.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    engine: Option<(Engine, FakeControl)>,
    stop: watch::Sender<bool>,
    reload: Arc<Notify>,
    running: JoinHandle<Result<DrainReport, ServeError>>,
}

impl Gate {
    /// Starts a gate with the fal key in its environment.
    pub(crate) async fn start(text: &str) -> Self {
        Self::start_in(text, &[("FAL_KEY", FAL_KEY)], None).await
    }

    /// Starts a gate with these variables, and waits for its engine.
    pub(crate) async fn start_in(text: &str, variables: &[(&str, &str)], log: Option<LogWriter>) -> Self {
        Self::start_on(text, FakeSettings::default().with_checker(255), (variables, log)).await
    }

    /// Starts a gate in front of this model.
    pub(crate) async fn start_on(
        text: &str,
        model: FakeSettings,
        (variables, log): (&[(&str, &str)], Option<LogWriter>),
    ) -> Self {
        let variables = variables.iter().chain(&[("TOKEN_KEYS", TOKEN_KEYS)]);
        let environment = Environment::new(variables.map(|(name, value)| (name.into(), value.into())))
            .with_flag("--listen", "gate.listen", "\"127.0.0.1:0\"")
            .with_flag("--admin", "gate.admin", "\"127.0.0.1:0\"")
            .with_flag("--token-keys", "guard.tokens.keys", "{ env = \"TOKEN_KEYS\" }");
        let config = Config::load(text, &environment).unwrap_or_else(|faults| panic!("{faults}"));
        let engine = if config.engine.enabled {
            let (opened, control) = FakeBackend::open(model);
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let engine = Engine::start(config.engine.clone(), move |_| {
                // The engine's thread logs where the test does, for as long as it lives.
                std::mem::forget(tracing::dispatcher::set_default(&dispatch));
                Ok(opened)
            });
            within(engine.ready()).await.unwrap();
            control.clear();
            Some((engine, control))
        } else {
            None
        };
        let theirs = engine.as_ref().map(|(engine, _)| engine.clone());
        let outside = Outside { engine: theirs, log, look_up: &|name| environment.look_up(name) };
        let bound = bind(&config, outside, Registry::default()).await.unwrap();
        let address = bound.local_addr().unwrap();
        let admin = bound.admin_addr().unwrap().unwrap();
        let (stop, stopped) = watch::channel(false);
        let reload = Arc::new(Notify::new());
        let orders = Orders { stop: stopped, reload: Arc::clone(&reload) };
        let running = tokio::spawn(bound.run(orders));
        Self { address, admin, engine, stop, reload, running }
    }

    pub(crate) fn control(&self) -> &FakeControl {
        &self.engine.as_ref().expect("this gate has an engine").1
    }

    /// The engine itself, for jobs that come from nowhere.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine.as_ref().expect("this gate has an engine").0
    }

    /// Asks the gate to stop, as SIGTERM does.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Tells the gate to read its files again, as SIGHUP does.
    pub(crate) fn reload(&self) {
        self.reload.notify_one();
    }

    /// Waits for the end of a gate that was asked to stop.
    pub(crate) async fn ended(self) -> DrainReport {
        within(self.running).await.unwrap().unwrap()
    }

    /// Sends one request on a connection of its own.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        Line::to(self.address).await.send(request).await
    }

    /// A GET of the gate, on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(asked(Method::GET, path, &[], "")).await
    }

    /// A JSON POST straight at the gate.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(asked(Method::POST, path, &[("content-type", "application/json")], body)).await
    }

    /// A JSON POST through the key proxy.
    pub(crate) async fn proxied(&self, target: &str, body: impl Into<Bytes>) -> Answer {
        self.send(proxied(target, body)).await
    }

    /// Sends bytes and reads until the gate closes.
    pub(crate) async fn probe(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        within(socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A request with a whole body. `host` is added unless it is given.
pub(crate) fn asked(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", "gate.test");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// A JSON POST for the key proxy.
pub(crate) fn proxied(target: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    asked(Method::POST, PROXY, &[("content-type", "application/json"), ("x-fal-target-url", target)], body)
}

/// One HTTP/1.1 connection to a gate. Dropping it hangs up.
pub(crate) struct Line {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Line {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(async move { drop(connection.await) });
        Self { sender, driver }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        let answer = within(self.sender.send_request(request)).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = within(body.collect()).await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body, note: None }
    }

    /// Sends a request and hands back the answer's head with its body still to come.
    pub(crate) async fn begin(&mut self, request: Request<Full<Bytes>>) -> (u16, HeaderMap, hyper::body::Incoming) {
        let (parts, body) = within(self.sender.send_request(request)).await.unwrap().into_parts();
        (parts.status.as_u16(), parts.headers, body)
    }
}

/// The next piece of a body.
pub(crate) async fn piece(body: &mut hyper::body::Incoming) -> Bytes {
    within(body.frame()).await.unwrap().unwrap().into_data().unwrap()
}

/// What an error says, after checking that it is one as fal's clients read it (case 101).
pub(crate) fn detail(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), "application/json", "{answer:?}");
    assert!(!answer.header("x-fal-request-id").is_empty(), "{answer:?}");
    match &answer.json()["detail"] {
        Value::String(text) => text.clone(),
        Value::Array(faults) => faults.iter().map(ToString::to_string).collect(),
        _ => panic!("no detail: {answer:?}"),
    }
}

/// A certificate for `localhost` under a CA of its own, in files.
pub(crate) struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(ca, rcgen::KeyPair::generate().unwrap()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("ca.pem", ca.pem()), ("cert.pem", own.pem()), ("key.pem", key.serialize_pem())] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Shakes hands on a connection, as one who believes the CA and speaks one protocol.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        protocol: &[u8],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        use rustls::pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_file(self.ca_file()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// The gate's settings for it.
    pub(crate) fn settings(&self) -> String {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        format!("[gate.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n", file("cert.pem"), file("key.pem"))
    }
}
