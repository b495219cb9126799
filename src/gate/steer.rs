//! Sends a plain fal call to the engine or upstream, and on to the upstream when the engine is full.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::route_table::{Destination, RouteTable};
use crate::guard::TokenService;
use crate::telemetry::CallNote;
use crate::wire::{Body, MemoryBudget, Problem, Reach, TargetUrl, ToProblem as _, TokenIssuer};

/// Picks, per call, the service that answers.
///
/// Needs a [`TargetUrl`] in the request's extensions; without one it answers 404. No call goes further than its
/// [`Reach`].
#[derive(Debug, Clone)]
pub struct Steer<H, U> {
    table: Arc<RouteTable>,
    host: H,
    upstream: U,
    tokens: Option<TokenService>,
    spill_body_bytes: u64,
    memory: MemoryBudget,
}

impl<H, U> Steer<H, U> {
    /// Steers between `host`, the embedded engine, and `upstream`.
    ///
    /// A call that may spill is held in memory while the engine looks at it, at most `spill_body_bytes` of it, and for one
    /// call at a time; see [`Steer::with_memory`].
    pub fn new(table: Arc<RouteTable>, host: H, upstream: U, spill_body_bytes: u64) -> Self {
        Self { table, host, upstream, tokens: None, spill_body_bytes, memory: MemoryBudget::new(spill_body_bytes) }
    }

    /// Holds calls that may spill within `memory`, shared with others that hold bodies. A call that finds no room is answered
    /// 429.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryBudget) -> Self {
        self.memory = memory;
        self
    }

    /// Answers calls for this gate's own tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Option<TokenService>) -> Self {
        self.tokens = tokens;
        self
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<H, U> Service<Request<Body>> for Steer<H, U>
where
    H: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    H::Future: Send + 'static,
    U: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    U::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = SteerFuture<H::Future, U::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match (self.host.poll_ready(cx), self.upstream.poll_ready(cx)) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(target) = request.extensions().get::<TargetUrl>() else {
            let problem = Problem::not_found(request.uri().path());
            return SteerFuture::Refused { problem: Some(problem) };
        };
        // Only the proxy, which has looked at the apps that are named, says that a token is this gate's to sign.
        if let (Some(TokenIssuer::Gate), Some(tokens)) = (request.extensions().get(), &mut self.tokens) {
            return SteerFuture::Token { inner: tokens.call(request) };
        }
        let decision = self.table.decide(target.call());
        match (decision.to, decision.spill, target.reach()) {
            // Admission and table read the same rows, so this is never met; a mistake there must not cost money.
            (Destination::Upstream, _, Reach::Here) => {
                let problem = Problem::new(StatusCode::FORBIDDEN, "this call may not leave the gate");
                SteerFuture::Refused { problem: Some(problem) }
            }
            (Destination::Upstream, _, Reach::Fal) => {
                let note = upstream_note(target);
                SteerFuture::Upstream { inner: self.upstream.call(request), note: Some(note) }
            }
            (Destination::Engine, None, _) | (Destination::Engine, Some(_), Reach::Here) => {
                SteerFuture::Host { inner: self.host.call(request) }
            }
            (Destination::Engine, Some(_), Reach::Fal) => {
                let ready = (self.host.clone(), self.upstream.clone());
                let (host, upstream) =
                    (std::mem::replace(&mut self.host, ready.0), std::mem::replace(&mut self.upstream, ready.1));
                let (limit, memory) = (self.spill_body_bytes, self.memory.clone());
                let inner = Box::pin(async move {
                    let (parts, body) = request.into_parts();
                    match memory.collect(body, limit).await {
                        Ok((body, _held)) => host_then_upstream(host, upstream, (parts, body)).await,
                        Err(error) => Ok(error.to_problem().into()),
                    }
                });
                SteerFuture::Spilling { inner }
            }
        }
    }
}

/// Asks the engine, and the upstream when the engine answers 429.
async fn host_then_upstream<H, U>(mut host: H, mut upstream: U, (parts, body): (Parts, Bytes)) -> Answer
where
    H: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    U: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    let answer = host.call(Request::from_parts(parts.clone(), Body::from(body.clone()))).await?;
    if answer.status() != StatusCode::TOO_MANY_REQUESTS {
        return Ok(answer);
    }
    let note = parts.extensions.get::<TargetUrl>().map(upstream_note);
    let mut answer = upstream.call(Request::from_parts(parts, Body::from(body))).await?;
    if let Some(note) = note {
        answer.extensions_mut().insert(note);
    }
    Ok(answer)
}

fn upstream_note(target: &TargetUrl) -> CallNote {
    let call = target.call();
    CallNote {
        endpoint: call.endpoint.as_ref().map(|endpoint| endpoint.as_str().to_owned()),
        kind: call.kind.as_str(),
        route: "upstream",
        waited: Duration::ZERO,
    }
}

pin_project! {
    /// The answer of whoever was picked.
    #[project = Projected]
    #[expect(missing_docs, reason = "the fields of an opaque future")]
    pub enum SteerFuture<H, U> {
        /// A call that names no target.
        Refused { problem: Option<Problem> },
        /// Answered by the engine.
        Host { #[pin] inner: H },
        /// Answered by the upstream.
        Upstream { #[pin] inner: U, note: Option<CallNote> },
        /// Answered by the gate itself.
        Token { inner: Pin<Box<dyn Future<Output = Answer> + Send>> },
        /// Asked of the engine first, with the upstream behind it.
        Spilling { inner: Pin<Box<dyn Future<Output = Answer> + Send>> },
    }
}

impl<H, U> Future for SteerFuture<H, U>
where
    H: Future<Output = Answer>,
    U: Future<Output = Answer>,
{
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.project() {
            Projected::Refused { problem } => {
                let problem = problem.take().expect("a future is not polled after it is done");
                Poll::Ready(Ok(problem.into()))
            }
            Projected::Host { inner } => inner.poll(cx),
            Projected::Upstream { inner, note } => {
                let mut answer = ready!(inner.poll(cx))?;
                if let Some(note) = note.take() {
                    answer.extensions_mut().insert(note);
                }
                Poll::Ready(Ok(answer))
            }
            Projected::Token { inner } | Projected::Spilling { inner } => inner.as_mut().poll(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::gate::{RouteSettings, Spill};
    use crate::wire::{AllowedTargets, Door, EndpointPattern, HostClass, PlainPath, TargetSettings, TokenIssuer};

    async fn status_with(reach: Reach) -> StatusCode {
        let endpoint = EndpointPattern::parse("fal-ai/lcm").unwrap();
        let row = RouteSettings {
            endpoint,
            to: Destination::Engine,
            spill: Some(Spill::Upstream),
            token: TokenIssuer::Gate,
            callers: None,
        };
        let table = RouteTable::new(vec![row], false);
        let allowed = AllowedTargets::new(TargetSettings::default()).with_rows(table.reaches(reach));
        let path = PlainPath {
            class: HostClass::Run,
            legacy_label: None,
            method: &Method::POST,
            path_and_query: "/fal-ai/lcm",
            door: Door::Http,
        };
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(allowed.admit_path(&path).unwrap());
        let full = service_fn(async |_| Ok(Problem::new(StatusCode::TOO_MANY_REQUESTS, "full").into()));
        let fal = service_fn(async |_| Ok(Response::new(Body::empty())));
        Steer::new(Arc::new(table), full, fal, 1024).oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_call_that_may_not_leave_is_not_spilled() {
        assert_eq!(status_with(Reach::Fal).await, StatusCode::OK);
        assert_eq!(status_with(Reach::Here).await, StatusCode::TOO_MANY_REQUESTS);
    }
}
