//! Connections without TLS: HTTP/1.1, each driven by the call that uses it, so that a call costs no other task a turn.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower_service::Service as _;

use super::Alarm;
use super::error::UpstreamError;
use super::metrics::UpstreamMetrics;
use super::pool::HTTP1_BUFFER_BYTES;
use super::sent_body::SentBody;
use super::{Address, UpstreamSettings};

/// Connections to one plain address. Clones share them.
#[derive(Clone)]
pub(super) struct PlainPool(Arc<Inner>);

struct Inner {
    address: Address,
    url: Uri,
    host: HeaderValue,
    tcp: HttpConnector,
    connect_limit: Duration,
    keep_alive: Duration,
    keep: usize,
    metrics: UpstreamMetrics,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The last one is used next, so that those that are not needed grow old at the front.
    lines: Vec<(Instant, Box<Line>)>,
    swept: bool,
}

/// One connection, not polled by anybody but the call that has it.
struct Line {
    sender: SendRequest<SentBody>,
    connection: Option<Connection<TokioIo<TcpStream>, SentBody>>,
    alarm: Alarm,
}

impl Line {
    /// Moves bytes, both ways.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            // How it ended is told to whoever waits for the head or the body.
            self.connection = None;
        }
    }

    /// Whether the last exchange is over, cleanly and wholly, and another may begin.
    fn is_free(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

impl PlainPool {
    pub(super) fn new(
        address: &Address,
        tcp: HttpConnector,
        from: &UpstreamSettings,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            address: address.clone(),
            url: address.root(),
            host: address.host_header(),
            tcp,
            connect_limit: Duration::from_millis(from.connect_timeout_ms.get()),
            keep_alive: Duration::from_millis(from.keep_alive_ms.get()),
            keep: from.keep_connections.get(),
            metrics,
            idle: Mutex::default(),
        }))
    }

    pub(super) fn address(&self) -> &Address {
        &self.0.address
    }

    /// Sends a request whose URI is a path. Dropping the exchange cancels it.
    pub(super) fn send(&self, mut request: Request<SentBody>) -> Exchange {
        request.headers_mut().insert(HOST, self.0.host.clone());
        Exchange { step: self.start(request), pool: self.clone() }
    }

    fn start(&self, request: Request<SentBody>) -> Step {
        match self.take() {
            Some(line) => Step::asking(line, request, Reused::Yes),
            None => Step::Dialling { dial: Box::pin(self.clone().dial()), request: Some(Box::new(request)) },
        }
    }

    fn take(&self) -> Option<Box<Line>> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, line) = idle.lines.pop()?;
        (since.elapsed() < self.0.keep_alive).then_some(line)
    }

    fn give_back(&self, line: Box<Line>) {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.lines.len() >= self.0.keep {
            return;
        }
        idle.lines.push((Instant::now(), line));
        if !idle.swept {
            idle.swept = true;
            // Ends when nothing is idle, or with the pool.
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }

    async fn dial(self) -> Result<Box<Line>, UpstreamError> {
        let (began, after) = (Instant::now(), self.0.connect_limit);
        let dialled = timeout(after, self.0.tcp.clone().call(self.0.url.clone())).await;
        let io = dialled.map_err(|_| UpstreamError::ConnectTimeout { after })?;
        let io = io.map_err(|error| UpstreamError::Connect(error.into()))?;
        self.0.metrics.connected(began.elapsed());
        let shaken = Builder::new().max_buf_size(HTTP1_BUFFER_BYTES).handshake(io).await;
        let (sender, connection) = shaken.map_err(|error| UpstreamError::Connect(error.into()))?;
        Ok(Box::new(Line { sender, connection: Some(connection), alarm: Alarm::default() }))
    }
}

/// Closes what has been idle for too long, or was closed by the other side.
async fn sweep(pool: Weak<Inner>) {
    loop {
        let Some(every) = pool.upgrade().map(|pool| pool.keep_alive.min(Duration::from_secs(5))) else { return };
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.lines.retain_mut(|(since, line)| {
            line.drive(&mut Context::from_waker(Waker::noop()));
            line.is_free() && since.elapsed() < pool.keep_alive
        });
        if idle.lines.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Box<Line>, UpstreamError>> + Send>>;
type Asked = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<SentBody>>>> + Send>>;

enum Step {
    Dialling { dial: Dial, request: Option<Box<Request<SentBody>>> },
    Asking { line: Option<Box<Line>>, asked: Asked, reused: Reused },
}

/// Whether a connection has served a call before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reused {
    Yes,
    No,
}

impl Step {
    fn asking(mut line: Box<Line>, request: Request<SentBody>, reused: Reused) -> Self {
        let asked = Box::pin(line.sender.try_send_request(request));
        Self::Asking { line: Some(line), asked, reused }
    }
}

/// One request on its way, until the head of its answer.
pub(super) struct Exchange {
    step: Step,
    pool: PlainPool,
}

impl Exchange {
    /// Ready with the head of the answer and the connection that its body comes from.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Response<Incoming>, InUse), UpstreamError>> {
        loop {
            self.step = match &mut self.step {
                Step::Dialling { dial, request } => {
                    let line = ready!(dial.as_mut().poll(cx))?;
                    let request = request.take().expect("the request waits here until the dial is done");
                    Step::asking(line, *request, Reused::No)
                }
                Step::Asking { line, asked, reused } => {
                    let driven = line.as_mut().expect("an exchange is not polled after it is done");
                    driven.drive(cx);
                    // Only driving moves it on, so nobody else need be woken.
                    match ready!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))) {
                        Ok(answer) => {
                            let in_use = InUse { line: line.take(), pool: self.pool.clone() };
                            return Poll::Ready(Ok((answer, in_use)));
                        }
                        Err(mut error) => match error.take_message() {
                            // Not a byte of it was sent: the other side had closed an idle connection.
                            Some(request) if *reused == Reused::Yes => self.pool.start(request),
                            _ => return Poll::Ready(Err(UpstreamError::Broken(error.into_error().into()))),
                        },
                    }
                }
            };
        }
    }

    /// Ready once `at` has passed.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match &mut self.step {
            Step::Asking { line: Some(line), .. } => line.alarm.poll(cx, at),
            // A dial has a deadline of its own.
            Step::Asking { line: None, .. } | Step::Dialling { .. } => Poll::Pending,
        }
    }
}

/// The connection of an answer whose body may still come. Dropping it closes the connection.
pub(super) struct InUse {
    line: Option<Box<Line>>,
    pool: PlainPool,
}

impl InUse {
    /// Gives the connection back if the whole answer has been read from it; says whether it is needed no more.
    pub(super) fn settle(&mut self) -> bool {
        match self.line.take_if(|line| line.is_free() || line.connection.is_none()) {
            Some(line) if line.is_free() => self.pool.give_back(line),
            Some(_) => {}
            None => return self.line.is_none(),
        }
        true
    }

    /// Moves bytes.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(line) = &mut self.line {
            line.drive(cx);
        }
    }

    /// Ready once `at` has passed.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        self.line.as_mut().map_or(Poll::Pending, |line| line.alarm.poll(cx, at))
    }
}
