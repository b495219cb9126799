//! A stand-in for fal on a loopback port: answers by script, keeps what it was sent, over http or https (HTTP/1.1 or
//! HTTP/2 as the client wishes).

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use falgate::wire::{Body, BodyError};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

/// A request that the fake was sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path_and_query: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The one value of a header, or nothing.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).into_iter();
        let first = values.next()?;
        assert!(values.next().is_none(), "{name} came more than once");
        Some(first.to_str().unwrap())
    }
}

/// What the fake answers.
pub(crate) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: ReplyBody,
}

enum ReplyBody {
    Whole(Bytes),
    Frames(mpsc::Receiver<Result<Bytes, BodyError>>),
    Never,
}

impl Reply {
    /// A JSON answer.
    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        Self { status, headers: Vec::new(), body: ReplyBody::Whole(body.into()) }
            .header("content-type", "application/json")
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.parse().unwrap(), value.parse().unwrap()));
        self
    }

    /// An event stream whose bytes come through the sender: one at a time, when the test says so.
    pub(crate) fn events() -> (Self, mpsc::Sender<Result<Bytes, BodyError>>) {
        let (sender, frames) = mpsc::channel(1);
        let reply = Self { status: StatusCode::OK, headers: Vec::new(), body: ReplyBody::Frames(frames) };
        (reply.header("content-type", "text/event-stream"), sender)
    }

    /// No answer, ever.
    pub(crate) fn never() -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), body: ReplyBody::Never }
    }
}

/// TLS for `localhost` under a CA of its own.
pub(crate) struct Certified {
    tls: Arc<rustls::ServerConfig>,
    ca_file: tempfile::NamedTempFile,
}

impl Certified {
    pub(crate) fn localhost(alpn: &[&str]) -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(ca, ca_key).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut ca_file = tempfile::NamedTempFile::new().unwrap();
        ca_file.write_all(ca.pem().as_bytes()).unwrap();
        Self { tls: Arc::new(tls), ca_file }
    }

    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.tls).into()
    }

    pub(crate) fn ca_file(&self) -> std::path::PathBuf {
        self.ca_file.path().to_owned()
    }
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    cancelled: Semaphore,
    body_bytes: watch::Sender<usize>,
}

/// The fake. It lives as long as the test's runtime.
pub(crate) struct FakeFal {
    address: SocketAddr,
    inner: Arc<Inner>,
    ca_file: Option<tempfile::NamedTempFile>,
}

impl FakeFal {
    /// Over plain http.
    pub(crate) async fn http(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(script, None).await
    }

    /// Over https, with a certificate for `localhost` under a CA of its own.
    pub(crate) async fn https(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static, alpn: &[&str]) -> Self {
        let certified = Certified::localhost(alpn);
        Self { ca_file: Some(certified.ca_file), ..Self::start(script, Some(certified.tls)).await }
    }

    async fn start(
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            script: Box::new(script),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            cancelled: Semaphore::new(0),
            body_bytes: watch::Sender::new(0),
        });
        let shared = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(shared, stream, false).await };
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        serve(shared, stream, http2).await;
                    }
                });
            }
        });
        Self { address, inner, ca_file: None }
    }

    /// Its base address.
    pub(crate) fn url(&self) -> String {
        match self.ca_file {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// The file with its CA, over https.
    pub(crate) fn ca_file(&self) -> std::path::PathBuf {
        self.ca_file.as_ref().expect("only https has a CA").path().to_owned()
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// Waits until a client went away from an answer under way.
    pub(crate) async fn cancelled(&self) {
        self.inner.cancelled.acquire().await.unwrap().forget();
    }

    /// Waits until this many body bytes came in, over all requests.
    pub(crate) async fn received(&self, bytes: usize) {
        self.inner.body_bytes.subscribe().wait_for(|came| *came >= bytes).await.unwrap();
    }
}

async fn serve(inner: Arc<Inner>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool) {
    let service = service_fn(move |request| answer(Arc::clone(&inner), request));
    let stream = TokioIo::new(stream);
    // A connection that the client breaks off is no failure of the fake.
    if http2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut guard = Guard { inner: Arc::clone(&inner), done: false };
    let (parts, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { std::future::pending().await };
        if let Ok(data) = frame.into_data() {
            inner.body_bytes.send_modify(|came| *came += data.len());
            body.extend_from_slice(&data);
        }
    }
    let seen = Seen {
        method: parts.method,
        path_and_query: parts.uri.path_and_query().unwrap().to_string(),
        version: parts.version,
        headers: parts.headers,
        body: body.into(),
    };
    let reply = (inner.script)(&seen);
    inner.seen.lock().unwrap().push(seen);
    let body = match reply.body {
        ReplyBody::Whole(bytes) => {
            guard.done = true;
            Body::from(bytes)
        }
        ReplyBody::Frames(frames) => Body::new(Frames { frames, guard }),
        ReplyBody::Never => {
            let _held = &guard;
            std::future::pending().await
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    for (name, value) in reply.headers {
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// Tells when an answer was dropped before its end.
struct Guard {
    inner: Arc<Inner>,
    done: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.done {
            self.inner.cancelled.add_permits(1);
        }
    }
}

struct Frames {
    frames: mpsc::Receiver<Result<Bytes, BodyError>>,
    guard: Guard,
}

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(self.frames.poll_recv(cx));
        self.guard.done |= frame.is_none();
        Poll::Ready(frame.map(|frame| frame.map(Frame::data)))
    }
}
