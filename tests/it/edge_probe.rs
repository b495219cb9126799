//! What the edge tests share: a small echo behind the real edge, and raw bytes on a socket.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use falgate::gate::accept::{DrainReport, DrainSettings, EdgeServer, LimitSettings, Listener, Refusal, RefusalLayer};
use falgate::wire::{Body, collect};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

/// Says back what came through the edge.
#[derive(Debug, Clone)]
struct Echo;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if parts.uri.path() == "/big" {
                return Ok(Response::new(Body::new(Pieces(1024))));
            }
            if parts.uri.path() == "/unread" {
                return Ok(Response::new(Body::from("unread")));
            }
            if parts.headers.contains_key("upgrade") && parts.uri.path() == "/tunnel" {
                return Ok(tunnel(Request::from_parts(parts, body)));
            }
            let Ok(bytes) = collect(body, 1024 * 1024).await else {
                let mut refused = Response::new(Body::from("body broke"));
                *refused.status_mut() = StatusCode::BAD_REQUEST;
                return Ok(refused);
            };
            let mut names: Vec<&str> = parts.headers.keys().map(http::HeaderName::as_str).collect();
            names.sort_unstable();
            let text = String::from_utf8_lossy(&bytes);
            Ok(Response::new(Body::from(format!("{} {} [{}] {text}", parts.method, parts.uri, names.join(" ")))))
        })
    }
}

/// So many pieces of 8 KiB, as an upstream would deliver them.
struct Pieces(usize);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or_default();
        Poll::Ready(left.map(|_| Ok(Frame::data(Bytes::from_static(&[b'x'; 8192])))))
    }
}

/// Accepts the handshake and echoes bytes in upper case from then on.
fn tunnel(mut request: Request<Body>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut socket = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
        let mut bytes = [0; 64];
        while let Ok(read) = socket.read(&mut bytes).await
            && read > 0
        {
            socket.write_all(&bytes[..read].to_ascii_uppercase()).await.unwrap();
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert("connection", "upgrade".parse().unwrap());
    headers.insert("upgrade", "websocket".parse().unwrap());
    response
}

/// The echo behind the layer that answers for the edge.
fn echo() -> Refusal<Echo> {
    RefusalLayer.layer(Echo)
}

/// A server on a port of its own.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    pub(crate) server: EdgeServer,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<DrainReport>,
}

impl Gate {
    pub(crate) fn start(limits: &LimitSettings) -> Self {
        Self::start_server(EdgeServer::new(limits.clone(), DrainSettings::default()), limits)
    }

    pub(crate) fn start_server(server: EdgeServer, limits: &LimitSettings) -> Self {
        Self::start_with(server, limits, echo())
    }

    pub(crate) fn start_with<S>(server: EdgeServer, limits: &LimitSettings, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server.clone();
        let ended =
            tokio::spawn(async move { serving.serve(listener, service, async move { drop(stopped.await) }).await });
        Self { address, server, stop, ended }
    }

    /// Sends bytes and reads until the gate closes.
    pub(crate) async fn probe(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(bytes.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn stop(self) -> DrainReport {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap()
    }
}

/// One connection in memory, for tests on paused time.
pub(crate) fn in_memory(limits: &LimitSettings, buffer: usize) -> (DuplexStream, JoinHandle<()>) {
    let server = EdgeServer::new(limits.clone(), DrainSettings::default());
    let (client, stream) = tokio::io::duplex(buffer);
    let peer: SocketAddr = "192.0.2.1:5000".parse().unwrap();
    let pass = server.admit(peer).unwrap();
    let task = tokio::spawn(async move { server.serve_stream(stream, peer, pass, echo()).await });
    (client, task)
}

/// Reads what has come until the answer ends with `end`.
pub(crate) async fn read_until(socket: &mut (impl AsyncReadExt + Unpin), end: &str) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let byte = socket.read_u8().await.unwrap_or_else(|_| panic!("ended after {}", answer.escape_ascii()));
        answer.push(byte);
    }
    String::from_utf8(answer).unwrap()
}

/// An answer without its `date` line, which no test can know.
pub(crate) fn dateless(answer: &str) -> String {
    answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// One connection in memory with the same echo on hyper as it comes.
pub(crate) fn plain_hyper() -> DuplexStream {
    let (client, stream) = tokio::io::duplex(64 * 1024);
    let service =
        hyper::service::service_fn(|request: Request<hyper::body::Incoming>| Echo.call(request.map(Body::from)));
    let stream = hyper_util::rt::TokioIo::new(stream);
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, service));
    client
}
