//! Accepts connections, serves them, and ends them in good order.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::connections::{Connections, Pass, Stage, TooMany};
use super::io::{GuardedIo, Http2, Waiting};
use super::listener::Listener;
use super::service::{EdgeService, Spare};
use super::settings::{DrainSettings, LimitSettings, ProxyProtocol, ms};
use super::tls::TlsKeeper;
use super::{http1, http2, proxied};
use crate::wire::{Body, BodyError};

/// Goodbyes that may be under way at once; beyond, connections are just closed.
const GOODBYES: usize = 64;
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// Pause after the system had no file descriptor or memory for one more connection.
const OUT_OF_BREATH: Duration = Duration::from_millis(100);

/// Serves connections under limits. Clones share the register of connections.
#[derive(Debug, Clone)]
pub struct EdgeServer {
    limits: Arc<LimitSettings>,
    drain: DrainSettings,
    tls: Option<TlsKeeper>,
    exempt: Arc<[IpNet]>,
    proxy_protocol: ProxyProtocol,
    connections: Connections,
    goodbyes: Arc<Semaphore>,
}

/// A connection that was taken in.
struct Client<T> {
    stream: T,
    peer: SocketAddr,
    pass: Pass,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections taken in over the whole life.
    pub accepted: u64,
    /// Connections refused at a limit.
    pub refused: u64,
    /// Connections open when the end was asked for.
    pub open_at_end: usize,
    /// Connections of those that had to be cut at the deadline.
    pub cut: usize,
}

impl EdgeServer {
    /// A server without TLS.
    #[must_use]
    pub fn new(limits: LimitSettings, drain: DrainSettings) -> Self {
        let connections = Connections::new(limits.connections.get(), limits.connections_per_address.get());
        Self {
            limits: Arc::new(limits),
            drain,
            tls: None,
            exempt: Arc::new([]),
            proxy_protocol: ProxyProtocol::Off,
            connections,
            goodbyes: Arc::new(Semaphore::new(GOODBYES)),
        }
    }

    /// Speaks TLS only.
    #[must_use]
    pub fn with_tls(mut self, keeper: TlsKeeper) -> Self {
        self.tls = Some(keeper);
        self
    }

    /// Does not hold connections of these networks to the limit per address: trusted proxies carry many callers.
    #[must_use]
    pub fn with_exempt(mut self, networks: impl Into<Arc<[IpNet]>>) -> Self {
        self.exempt = networks.into();
        self
    }

    /// Takes connections of the networks of [`Self::with_exempt`] alone, each with a header of the PROXY protocol, and the
    /// address in it for the peer's.
    #[must_use]
    pub const fn with_proxy_protocol(mut self, proxy_protocol: ProxyProtocol) -> Self {
        self.proxy_protocol = proxy_protocol;
        self
    }

    /// The register of connections, for metrics and for owners of upgraded sockets.
    #[must_use]
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Accepts and serves until `shutdown` is ready, then drains: stops accepting, ends quiet connections, lets requests
    /// in flight finish (`connection: close`, GOAWAY) and cuts what is left at the deadline.
    pub async fn serve<S, B>(&self, listener: Listener, service: S, shutdown: impl Future<Output = ()>) -> DrainReport
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        tokio::select! {
            biased;
            () = shutdown => {}
            () = self.accept_all(&listener, service) => {}
        }
        drop(listener);
        self.drain().await
    }

    async fn accept_all<S, B>(&self, listener: &Listener, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => match self.admit(peer) {
                    Ok(pass) => {
                        let (server, service) = (self.clone(), service.clone());
                        // The task ends with its connection; drain waits for it through the pass.
                        let client = Client { stream, peer, pass };
                        tokio::spawn(async move { server.open(client, service).await });
                    }
                    Err(why) => self.say_goodbye(stream, why),
                },
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a connection");
                    tokio::time::sleep(OUT_OF_BREATH).await;
                }
            }
        }
    }

    /// Takes a connection in.
    ///
    /// # Errors
    /// [`TooMany`] at a limit.
    pub fn admit(&self, peer: SocketAddr) -> Result<Pass, TooMany> {
        let address = peer.ip().to_canonical();
        self.connections.admit((!self.is_exempt(address)).then_some(address))
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&address))
    }

    /// The client for whom a trusted proxy opened the connection. Without a header in time there is none, and whoever is
    /// no trusted proxy may say nothing; neither gets an answer.
    async fn behind_proxy(&self, client: Client<TcpStream>) -> Option<Client<TcpStream>> {
        let Client { mut stream, peer, mut pass } = client;
        if !self.is_exempt(peer.ip().to_canonical()) {
            tracing::debug!(%peer, "closed: no trusted proxy, and gate.proxy_protocol is required");
            return None;
        }
        let read = timeout(ms(self.limits.handshake_ms), proxied::read(&mut stream)).await;
        let source = match read {
            Ok(Ok(source)) => source,
            Ok(Err(fault)) => {
                tracing::debug!(%peer, %fault, "closed (gate.proxy_protocol)");
                return None;
            }
            Err(_) => return None,
        };
        let Some(source) = source else { return Some(Client { stream, peer, pass }) };
        let address = source.ip().to_canonical();
        if !self.is_exempt(address)
            && let Err(why) = pass.count_on(address)
        {
            self.say_goodbye(stream, why);
            return None;
        }
        Some(Client { stream, peer: source, pass })
    }

    async fn open<S, B>(&self, client: Client<TcpStream>, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let client = match self.proxy_protocol {
            ProxyProtocol::Off => client,
            ProxyProtocol::Required => match self.behind_proxy(client).await {
                Some(client) => client,
                None => return,
            },
        };
        match &self.tls {
            None => self.speak(client, service, self.plain_http2()).await,
            // Boxed: the state of TLS is large, and plain connections would keep room for it.
            Some(tls) => Box::pin(self.shake_hands(tls.acceptor(), client, service)).await,
        }
    }

    async fn shake_hands<S, B>(&self, tls: TlsAcceptor, client: Client<TcpStream>, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let Client { stream, peer, pass } = client;
        // Whoever cannot shake hands, or not in time, is no caller and gets no answer.
        let Ok(Ok(stream)) = timeout(ms(self.limits.handshake_ms), tls.accept(stream)).await else { return };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let http2 = if is_http2 { Http2::Only } else { Http2::No };
        self.speak(Client { stream, peer, pass }, service, http2).await;
    }

    fn plain_http2(&self) -> Http2 {
        if self.limits.http2_plain { Http2::Maybe } else { Http2::No }
    }

    /// Serves one plain connection that somebody else accepted, until it ends.
    pub async fn serve_stream<T, S, B>(&self, stream: T, peer: SocketAddr, pass: Pass, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        self.speak(Client { stream, peer, pass }, service, self.plain_http2()).await;
    }

    async fn speak<T, S, B>(&self, client: Client<T>, service: S, http2: Http2)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let Client { stream, peer, pass } = client;
        let mut io = GuardedIo::new(stream, &self.limits, pass);
        io.idle_until = Some(Instant::now() + ms(self.limits.head_ms));
        let waiting = http1::wait(&mut io, http2).await;
        let service = EdgeService {
            service,
            spare: Spare::default(),
            shared: Arc::clone(&io.shared),
            peer,
            limits: self.limits.head(),
            stalls: None,
            pace: None,
        };
        match waiting {
            Waiting::Request => Box::pin(http1::serve(io, service, &self.limits)).await,
            Waiting::Http2 => Box::pin(http2::serve(io, service, &self.limits)).await,
            Waiting::End => {}
        }
    }

    /// Tells a client that is one too many, where that costs nothing: on plain TCP, a few at a time.
    fn say_goodbye(&self, stream: TcpStream, why: TooMany) {
        let Ok(permit) = Arc::clone(&self.goodbyes).try_acquire_owned() else { return };
        if self.tls.is_some() {
            return;
        }
        // The task ends by its deadline.
        tokio::spawn(async move {
            let said = timeout(GOODBYE_TIME, goodbye(stream, why)).await;
            drop((said, permit));
        });
    }

    async fn drain(&self) -> DrainReport {
        let open_at_end = self.connections.open();
        self.connections.enter(Stage::Draining);
        let ended = timeout(ms(self.drain.deadline_ms), self.connections.all_ended()).await;
        let cut = if ended.is_ok() { 0 } else { self.connections.open() };
        self.connections.enter(Stage::Closing);
        let (accepted, refused) = (self.connections.accepted(), self.connections.refused());
        DrainReport { accepted, refused, open_at_end, cut }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    // InvalidInput is what setting TCP_NODELAY says on some systems when the client has left already.
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | InvalidInput)
}

async fn goodbye(mut stream: TcpStream, why: TooMany) -> io::Result<()> {
    let status = match why {
        TooMany::InAll => "503 Service Unavailable",
        TooMany::FromAddress => "429 Too Many Requests",
    };
    let body = format!(r#"{{"detail":"{why}","message":"{why}"}}"#);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
    stream.shutdown().await?;
    // Unread bytes would turn the close into a reset, and the answer would be lost.
    let mut unread = [0; 1024];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}
