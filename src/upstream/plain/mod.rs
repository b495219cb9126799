//! Connections without TLS: HTTP/1.1, each driven by the call that uses it, so that a call costs no other task a turn.
//!
//! What is spoken here is written and read by falgate itself: a call is one write and one read where its bodies are small,
//! and large answers pass through few buffers that stay in the processor's cache.

mod answer;
mod chunks;
mod line;
mod piece;
mod request;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout};
use tower_service::Service as _;

use self::line::Line;
use super::error::UpstreamError;
use super::metrics::UpstreamMetrics;
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
        let step = match self.take() {
            Some(mut line) => {
                line.begin(request);
                Step::Asking { line: Some(line) }
            }
            None => Step::Dialling { dial: Box::pin(self.clone().dial()), request: Some(Box::new(request)) },
        };
        Exchange { step, pool: self.clone() }
    }

    /// A line that the other side has not closed: what is sent on it may be read, and is never sent again.
    fn take(&self) -> Option<Box<Line>> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, mut line)) = idle.lines.pop() {
            if since.elapsed() < self.0.keep_alive && line.is_quiet() {
                return Some(line);
            }
        }
        None
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
        Ok(Box::new(Line::new(io.into_inner())))
    }
}

/// Closes what has been idle for too long, or was closed by the other side.
async fn sweep(pool: Weak<Inner>) {
    loop {
        let Some(every) = pool.upgrade().map(|pool| pool.keep_alive.min(Duration::from_secs(5))) else { return };
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.lines.retain_mut(|(since, line)| since.elapsed() < pool.keep_alive && line.is_quiet());
        if idle.lines.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Box<Line>, UpstreamError>> + Send>>;

enum Step {
    Dialling { dial: Dial, request: Option<Box<Request<SentBody>>> },
    Asking { line: Option<Box<Line>> },
}

/// One request on its way, until the head of its answer.
pub(super) struct Exchange {
    step: Step,
    pool: PlainPool,
}

impl Exchange {
    /// Ready with the head of the answer and where its body comes from.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Response<()>, PlainBody), UpstreamError>> {
        loop {
            match &mut self.step {
                Step::Dialling { dial, request } => {
                    let mut line = ready!(dial.as_mut().poll(cx))?;
                    line.begin(*request.take().expect("the request waits here until the dial is done"));
                    self.step = Step::Asking { line: Some(line) };
                }
                Step::Asking { line } => {
                    let asked = line.as_mut().expect("an exchange is not polled after it is done");
                    let answer = ready!(asked.poll_head(cx))?;
                    let line = line.take().expect("it was there a line above");
                    return Poll::Ready(Ok((answer, PlainBody::new(line, self.pool.clone()))));
                }
            }
        }
    }

    /// Ready once `at` has passed.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match &mut self.step {
            Step::Asking { line: Some(line) } => line.alarm.poll(cx, at),
            // A dial has a deadline of its own.
            Step::Asking { line: None } | Step::Dialling { .. } => Poll::Pending,
        }
    }
}

/// The body of an answer, on its connection or whole. Dropping it closes a connection on which more is to come.
pub(super) enum PlainBody {
    /// All of it came with the head.
    Whole(Bytes),
    /// More is to come.
    Coming(ComingBody),
}

/// A body that is still read from its connection.
pub(super) struct ComingBody {
    /// `None` once all of it has come.
    line: Option<Box<Line>>,
    pool: PlainPool,
}

impl PlainBody {
    fn new(mut line: Box<Line>, pool: PlainPool) -> Self {
        match line.take_rest() {
            Some(rest) => {
                settle(line, &pool);
                Self::Whole(rest)
            }
            None => Self::Coming(ComingBody { line: Some(line), pool }),
        }
    }

    /// Gives the next piece; `None` at the end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        match self {
            Self::Whole(rest) => {
                let rest = std::mem::take(rest);
                Poll::Ready((!rest.is_empty()).then_some(Ok(rest)))
            }
            Self::Coming(ComingBody { line, pool }) => {
                let Some(coming) = line else { return Poll::Ready(None) };
                let data = ready!(coming.poll_data(cx));
                if coming.is_over()
                    && let Some(line) = line.take()
                {
                    settle(line, pool);
                }
                Poll::Ready(data)
            }
        }
    }

    /// How many bytes are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Whole(rest) => Some(rest.len() as u64),
            Self::Coming(coming) => coming.line.as_ref().map_or(Some(0), |line| line.left()),
        }
    }

    /// Ready once `at` has passed.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match self {
            Self::Coming(ComingBody { line: Some(line), .. }) => line.alarm.poll(cx, at),
            Self::Coming(ComingBody { line: None, .. }) | Self::Whole(_) => Poll::Pending,
        }
    }
}

/// Gives a connection back when its exchange is wholly over, and closes it otherwise.
fn settle(line: Box<Line>, pool: &PlainPool) {
    if line.is_free() {
        pool.give_back(line);
    }
}
