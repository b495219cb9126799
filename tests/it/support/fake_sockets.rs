//! A stand-in for fal's sockets on a loopback port: mints tokens, answers handshakes by script, and hands each open socket to
//! the test, which plays fal on it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use falgate::wire::{Body, accept_of};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::fake_fal::{Certified, Seen};
use crate::engine_support::within;

/// fal's side of an open socket.
pub(crate) type FalSocket = WebSocketStream<TokioIo<Upgraded>>;

/// What the fake answers.
pub(crate) enum Answer {
    /// A handshake, rightly.
    Open,
    /// A handshake, rightly, but only after a word of the test's.
    After(Arc<Notify>),
    /// Anything, with this status and body.
    Status(u16, &'static str),
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    minted: AtomicUsize,
    opened: mpsc::UnboundedSender<FalSocket>,
}

/// The fake. It lives as long as the test's runtime.
pub(crate) struct FakeSockets {
    address: SocketAddr,
    certified: Option<Certified>,
    inner: Arc<Inner>,
    sockets: tokio::sync::Mutex<mpsc::UnboundedReceiver<FalSocket>>,
}

impl FakeSockets {
    /// Over plain http; opens every socket.
    pub(crate) async fn open() -> Self {
        Self::start(|_| Answer::Open, None).await
    }

    /// Over plain http, by script. Token calls are answered before the script is asked.
    pub(crate) async fn scripted(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(script, None).await
    }

    /// Over https; opens every socket.
    pub(crate) async fn secure() -> Self {
        Self::start(|_| Answer::Open, Some(Certified::localhost(&["http/1.1"]))).await
    }

    async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static, certified: Option<Certified>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, sockets) = mpsc::unbounded_channel();
        let (seen, minted) = (Mutex::default(), AtomicUsize::new(0));
        let inner = Arc::new(Inner { script: Box::new(script), seen, minted, opened });
        let tls = certified.as_ref().map(Certified::acceptor);
        let shared = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(shared, stream).await };
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(shared, stream).await;
                    }
                });
            }
        });
        Self { address, certified, inner, sockets: tokio::sync::Mutex::new(sockets) }
    }

    /// Its base address.
    pub(crate) fn url(&self) -> String {
        match self.certified {
            Some(_) => format!("https://localhost:{}", self.address.port()),
            None => format!("http://{}", self.address),
        }
    }

    /// The file with its CA, over https.
    pub(crate) fn ca_file(&self) -> Option<std::path::PathBuf> {
        self.certified.as_ref().map(Certified::ca_file)
    }

    /// fal's side of the next socket that is opened.
    pub(crate) async fn socket(&self) -> FalSocket {
        within(async { self.sockets.lock().await.recv().await }).await.unwrap()
    }

    /// fal's side of the next socket, whenever that is opened.
    pub(crate) async fn next_socket(&self) -> FalSocket {
        self.sockets.lock().await.recv().await.unwrap()
    }

    /// All handshakes so far.
    pub(crate) fn handshakes(&self) -> Vec<Seen> {
        let seen = self.inner.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.headers.contains_key("upgrade")).cloned().collect()
    }

    /// All wishes for a token so far.
    pub(crate) fn wishes(&self) -> Vec<Seen> {
        let seen = self.inner.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path_and_query == "/tokens/").cloned().collect()
    }
}

async fn serve(inner: Arc<Inner>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let service = service_fn(move |request| answer(Arc::clone(&inner), request));
    // A connection that the other side breaks off is no failure of the fake.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(inner: Arc<Inner>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method,
        path_and_query: parts.uri.path_and_query().unwrap().to_string(),
        version: parts.version,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    let key = seen.headers.get("sec-websocket-key").cloned();
    inner.seen.lock().unwrap().push(seen.clone());
    if seen.path_and_query == "/tokens/" {
        let number = inner.minted.fetch_add(1, Ordering::SeqCst);
        return Ok(Response::new(Body::from(format!("\"canary-token-{number}\""))));
    }
    let mut response = Response::new(Body::empty());
    let answer = (inner.script)(&seen);
    if let Answer::After(word) = &answer {
        word.notified().await;
    }
    match answer {
        Answer::Open | Answer::After(_) => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            put(
                response.headers_mut(),
                &[("connection", "upgrade"), ("upgrade", "websocket"), ("x-fal-secret", "canary")],
            );
            let accept = accept_of(key.unwrap().as_bytes());
            response.headers_mut().insert("sec-websocket-accept", accept.as_slice().try_into().unwrap());
            tokio::spawn(async move {
                let upgraded = TokioIo::new(upgrade.await.unwrap());
                let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
                let _ = inner.opened.send(socket);
            });
        }
        Answer::Status(status, text) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            *response.body_mut() = Body::from(text);
        }
    }
    Ok(response)
}

fn put(headers: &mut HeaderMap, fields: &[(&'static str, &'static str)]) {
    for (name, value) in fields {
        headers.insert(*name, value.parse().unwrap());
    }
}
