//! Dials fal, or whatever stands for it, and streams both bodies.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::ResponseFuture;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::Addresses;
use super::error::{ClientError, UpstreamError};
use super::line::LineEnd;
use super::metrics::{Outcome, UpstreamMetrics};
use super::plain::{Exchange, PlainBody};
use super::pool::{Pool, explain};
use super::response_body::{driven, watched};
use super::sent_body::{Progress, SentBody};
use super::settings::UpstreamSettings;
use crate::wire::{Body, TargetUrl, ToProblem};

/// Headers of one connection, which the pool writes itself.
fn is_own(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "host"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
    )
}

/// Sends admitted calls to the address of their host class. Clones share their connections.
///
/// Needs a [`TargetUrl`] in the request; the request's own URI and `Host` are not looked at. It never fails: trouble is
/// answered as a 502 or 504 [`Problem`](crate::wire::Problem), and logged. Redirects are handed back without their `location`, not followed.
/// Dropping the answer's future or body cancels the call: the connection is closed, or its HTTP/2 stream reset.
///
/// ```
/// use falgate::upstream::{UpstreamClient, UpstreamSettings};
///
/// let client = UpstreamClient::new(UpstreamSettings::default())?;
/// # drop(client);
/// # Ok::<(), falgate::upstream::ClientError>(())
/// ```
#[derive(Clone)]
pub struct UpstreamClient(Arc<Inner>);

struct Inner {
    pool: Pool,
    addresses: Addresses,
    first_byte: Duration,
    idle: Duration,
    metrics: UpstreamMetrics,
}

impl UpstreamClient {
    /// Makes a client without a connection; the first call dials.
    ///
    /// # Errors
    /// [`ClientError`] when an address would show the key, or when the CA file cannot be used.
    pub fn new(settings: UpstreamSettings) -> Result<Self, ClientError> {
        Self::with_metrics(settings, UpstreamMetrics::default())
    }

    /// Like [`UpstreamClient::new`], counting into `metrics`.
    ///
    /// # Errors
    /// As [`UpstreamClient::new`].
    pub fn with_metrics(settings: UpstreamSettings, metrics: UpstreamMetrics) -> Result<Self, ClientError> {
        if let Some((path, fault)) = settings.faults().into_iter().next() {
            return Err(ClientError::Settings { path, fault });
        }
        Ok(Self(Arc::new(Inner {
            pool: Pool::new(&settings, metrics.clone())?,
            addresses: settings.addresses,
            first_byte: Duration::from_millis(settings.first_byte_timeout_ms.get()),
            idle: Duration::from_millis(settings.idle_timeout_ms.get()),
            metrics,
        })))
    }
}

impl std::fmt::Debug for UpstreamClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamClient").field("addresses", &self.0.addresses).finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for UpstreamClient {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ClientFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ClientFuture {
        let inner = Arc::clone(&self.0);
        match inner.prepare(request) {
            Ok((answer, progress)) => {
                let due = Instant::now() + inner.first_byte;
                ClientFuture { state: State::Waiting { answer, progress, due }, inner }
            }
            Err(error) => ClientFuture { state: State::Refused { error: Some(error) }, inner },
        }
    }
}

type Prepared = (Answer, Option<Arc<Progress>>);

impl Inner {
    fn prepare(&self, request: Request<Body>) -> Result<Prepared, UpstreamError> {
        if !matches!(*request.method(), Method::GET | Method::POST | Method::PUT) {
            return Err(UpstreamError::Method);
        }
        let target = request.extensions().get::<TargetUrl>().ok_or(UpstreamError::NoTarget)?;
        let plain = self.pool.plain(target.class());
        let url = match plain {
            Some(_) => target.path_and_query().clone().into(),
            None => self.addresses.url(target),
        };
        let (mut parts, body) = request.into_parts();
        remove_own(&mut parts.headers);
        let (body, progress) = SentBody::new(body, self.idle);
        let mut sent = Request::new(body);
        *sent.method_mut() = parts.method;
        *sent.uri_mut() = url;
        *sent.version_mut() = Version::HTTP_11;
        *sent.headers_mut() = parts.headers;
        let answer = match plain {
            Some(pool) => Answer::Plain { exchange: pool.send(sent) },
            None => Answer::Secure { answer: self.pool.send(sent), deadline: tokio::time::sleep(self.first_byte) },
        };
        Ok((answer, progress))
    }

    fn receive(&self, answer: Response<Coming>) -> Result<Response<Body>, UpstreamError> {
        let (mut parts, body) = answer.into_parts();
        // Where such an answer ends is read differently by different readers.
        let doubtful =
            parts.headers.contains_key(header::TRANSFER_ENCODING) && parts.headers.contains_key(header::CONTENT_LENGTH);
        if doubtful || parts.status.is_informational() {
            if let Some(line) = parts.extensions.get::<LineEnd>() {
                line.give_up();
            }
            return Err(UpstreamError::Framing);
        }
        remove_own(&mut parts.headers);
        if parts.status.is_redirection() {
            parts.headers.remove(header::LOCATION);
        }
        self.metrics.count(match parts.status.as_u16() {
            500.. => Outcome::Failed,
            400..=499 => Outcome::Refused,
            _ => Outcome::Answered,
        });
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let body = match body {
            Coming::Plain(body) => driven(body, self.idle),
            Coming::Secure(body) => watched(body, self.idle),
        };
        Ok(Response::from_parts(parts, body))
    }

    fn fail(&self, error: &UpstreamError) -> Response<Body> {
        self.metrics.count(error.outcome());
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            causes.push(inner.to_string());
            cause = inner.source();
        }
        tracing::warn!(%error, causes = causes.join(": "), "a call to fal has no answer");
        error.to_problem().into()
    }
}

fn remove_own(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
        let listed: Vec<HeaderName> = listed
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            // The key was attached after the caller's headers were stripped; no list takes it off again.
            .filter(|name| *name != header::AUTHORIZATION)
            .collect();
        for name in listed {
            headers.remove(name);
        }
    }
    while let Some(name) = headers.keys().find(|name| is_own(name.as_str())).cloned() {
        headers.remove(name);
    }
}

pin_project! {
    /// The answer of fal, or a problem.
    pub struct ClientFuture {
        #[pin]
        state: State,
        inner: Arc<Inner>,
    }
}

pin_project! {
    #[project = Projected]
    enum State {
        Refused { error: Option<UpstreamError> },
        Waiting {
            #[pin]
            answer: Answer,
            progress: Option<Arc<Progress>>,
            due: Instant,
        },
    }
}

pin_project! {
    #[project = Answering]
    enum Answer {
        Secure {
            #[pin]
            answer: ResponseFuture,
            #[pin]
            deadline: Sleep,
        },
        Plain { exchange: Exchange },
    }
}

/// Where the body of an answer comes from.
enum Coming {
    Secure(Incoming),
    Plain(PlainBody),
}

type Received = Result<Response<Coming>, UpstreamError>;

impl Answer {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Received> {
        match self.project() {
            Answering::Secure { answer, .. } => {
                answer.poll(cx).map_ok(|answer| answer.map(Coming::Secure)).map_err(explain)
            }
            Answering::Plain { exchange } => {
                exchange.poll(cx).map_ok(|(answer, body)| answer.map(|()| Coming::Plain(body)))
            }
        }
    }

    /// Ready once `at` has passed.
    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        match self.project() {
            Answering::Secure { mut deadline, .. } => {
                if deadline.deadline() != at {
                    deadline.as_mut().reset(at);
                }
                deadline.poll(cx)
            }
            Answering::Plain { exchange } => exchange.poll_due(cx, at),
        }
    }
}

impl Future for ClientFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (mut answer, progress, due) = match this.state.project() {
            Projected::Refused { error } => {
                let error = error.take().expect("a future is not polled after it is done");
                return Poll::Ready(Ok(this.inner.fail(&error)));
            }
            Projected::Waiting { answer, progress, due } => (answer, progress, due),
        };
        if let Poll::Ready(received) = answer.as_mut().poll(cx) {
            let caller = || progress.as_ref().and_then(|progress| progress.fault());
            let received = match received {
                Ok(answer) => this.inner.receive(answer),
                Err(error) => Err(caller().unwrap_or(error)),
            };
            return Poll::Ready(Ok(received.unwrap_or_else(|error| this.inner.fail(&error))));
        }
        let limit = this.inner.first_byte;
        while answer.as_mut().poll_due(cx, *due).is_ready() {
            // While the request is still on its way, the wait has not begun.
            let later = progress.as_ref().map_or(*due, |progress| progress.last() + limit);
            if later <= Instant::now() {
                return Poll::Ready(Ok(this.inner.fail(&UpstreamError::NoAnswer { after: limit })));
            }
            *due = later;
        }
        Poll::Pending
    }
}
