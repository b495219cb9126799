//! Attaches the key, and tries the next one when fal refuses the first.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::error::UpstreamError;
use super::key::attach_key;
use super::key_ring::{KeyRing, Rest, Slot};
use super::metrics::UpstreamMetrics;
use crate::wire::{Body, CollectError, Problem, TargetUrl, ToProblem, collect};

const REPLAY_BYTES: u64 = 1024 * 1024;

/// Makes [`WithFalKey`] out of a client.
///
/// Needs a [`TargetUrl`] in the request; adds `authorization`. A request without one is answered 500, one with a method
/// other than GET, POST and PUT 405: neither meets the key.
///
/// With several keys in the ring, a call that fal answers 401, 403 or 429 is sent again with the next key, if its body is
/// small enough to be held: fal has done no work for it. The last answer is handed back.
///
/// ```
/// use falgate::upstream::{FalKeyLayer, KeyRing, UpstreamClient, UpstreamSettings};
/// use tower::Layer;
///
/// let layer = FalKeyLayer::new(KeyRing::single("id:secret".to_owned())?);
/// let fal = layer.layer(UpstreamClient::new(UpstreamSettings::default())?);
/// # drop(fal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FalKeyLayer {
    ring: KeyRing,
    replay_bytes: u64,
    metrics: UpstreamMetrics,
}

impl FalKeyLayer {
    /// Attaches the keys of `ring`.
    #[must_use]
    pub fn new(ring: KeyRing) -> Self {
        Self { ring, replay_bytes: REPLAY_BYTES, metrics: UpstreamMetrics::default() }
    }

    /// Holds bodies up to this size, so that they can be sent again with another key. 1 MiB unless told.
    #[must_use]
    pub const fn with_replay_bytes(mut self, bytes: u64) -> Self {
        self.replay_bytes = bytes;
        self
    }

    /// Counts fail-overs into `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: UpstreamMetrics) -> Self {
        self.metrics = metrics;
        self
    }
}

impl<S> Layer<S> for FalKeyLayer {
    type Service = WithFalKey<S>;

    fn layer(&self, inner: S) -> WithFalKey<S> {
        WithFalKey { keys: self.clone(), inner }
    }
}

/// A client whose calls carry a fal key; see [`FalKeyLayer`].
#[derive(Debug, Clone)]
pub struct WithFalKey<S> {
    keys: FalKeyLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for WithFalKey<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = KeyFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(target) = request.extensions().get::<TargetUrl>().cloned() else {
            return KeyFuture::Refused { problem: Some(UpstreamError::NoTarget.to_problem()) };
        };
        if !matches!(*request.method(), Method::GET | Method::POST | Method::PUT) {
            return KeyFuture::Refused { problem: Some(UpstreamError::Method.to_problem()) };
        }
        if self.keys.ring.count() > 1 {
            let ready = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, ready);
            return KeyFuture::Trying { inner: Box::pin(self.keys.clone().try_each(inner, request, target)) };
        }
        let slot = self.keys.ring.pick(&[]).expect("a ring holds at least one key");
        attach_key(&target, slot.key(), request.headers_mut());
        KeyFuture::Once { inner: self.inner.call(request) }
    }
}

impl FalKeyLayer {
    async fn try_each<S>(self, mut inner: S, request: Request<Body>, to: TargetUrl) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let (parts, body) = request.into_parts();
        let fits = body.size_hint().exact().is_some_and(|bytes| bytes <= self.replay_bytes);
        let mut tried: Vec<Arc<Slot>> = Vec::new();
        let mut slot = self.ring.pick(&tried).expect("a ring holds at least one key");
        if !fits {
            let mut request = Request::from_parts(parts, body);
            attach_key(&to, slot.key(), request.headers_mut());
            let answer = inner.call(request).await?;
            self.judge(&slot, &answer);
            return Ok(answer);
        }
        let body = match collect(body, self.replay_bytes).await {
            Ok(body) => body,
            Err(CollectError::TooLarge { limit }) => return Ok(Problem::too_large(limit).into()),
            Err(CollectError::Broken(_)) => return Ok(UpstreamError::CallerBroke.to_problem().into()),
        };
        loop {
            let mut request = Request::from_parts(parts.clone(), Body::from(body.clone()));
            attach_key(&to, slot.key(), request.headers_mut());
            let answer = inner.call(request).await?;
            if !self.judge(&slot, &answer) {
                return Ok(answer);
            }
            tried.push(slot);
            slot = match self.ring.pick(&tried) {
                Some(next) => next,
                None => return Ok(answer),
            };
            drop(answer);
            self.metrics.failed_over();
            poll_fn(|cx| inner.poll_ready(cx)).await?;
        }
    }

    /// Lets the key rest if fal would not have it. Says whether another one may do better.
    fn judge(&self, slot: &Slot, answer: &Response<Body>) -> bool {
        let why = match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Rest::Refused,
            StatusCode::TOO_MANY_REQUESTS => Rest::Limited(retry_after(answer.headers())),
            _ => return false,
        };
        self.ring.rest(slot, why);
        true
    }
}

/// How long an answer says to stay away.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

pin_project! {
    /// The answer to a call that carries a key.
    #[project = Projected]
    #[expect(missing_docs, reason = "the fields of an opaque future")]
    pub enum KeyFuture<F, E> {
        /// Answered without a call.
        Refused { problem: Option<Problem> },
        /// Sent once.
        Once { #[pin] inner: F },
        /// Sent until a key is taken.
        Trying { inner: Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>> },
    }
}

impl<F, E> Future for KeyFuture<F, E>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Refused { problem } => {
                let problem = problem.take().expect("a future is not polled after it is done");
                Poll::Ready(Ok(problem.into()))
            }
            Projected::Once { inner } => inner.poll(cx),
            Projected::Trying { inner } => inner.as_mut().poll(cx),
        }
    }
}
