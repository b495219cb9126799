//! What the proxy answers with: a refusal, the inner answer without what must not pass, or the inner answer to a checked
//! input.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::limit::Overflow;
use super::rewrite::rewrite_response;
use super::service::Rules;
use super::token_body;
use crate::wire::{Body, CollectError, Problem, REQUEST_ID, Reach, RequestId, TargetUrl, collect};

/// What must be checked in a body before it is passed on, and how much of it is held for that.
#[derive(Debug, Clone, Copy)]
pub(super) enum Check {
    /// The input of an endpoint with a policy.
    Input { limit: u64 },
    /// A wish for a token.
    Token { limit: u64 },
}

pin_project! {
    /// The answer to a proxy call.
    pub struct ProxyFuture<F, E> {
        #[pin]
        state: State<F, E>,
        id: Option<RequestId>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F, E> {
        Refused { problem: Option<Problem> },
        Forwarding { #[pin] inner: F, limited: Option<(Overflow, u64)> },
        Checking { inner: Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>> },
    }
}

impl<F, E> ProxyFuture<F, E> {
    pub(super) const fn refuse(problem: Problem, id: Option<RequestId>) -> Self {
        Self { state: State::Refused { problem: Some(problem) }, id }
    }

    pub(super) const fn forward(inner: F, limited: Option<(Overflow, u64)>, id: Option<RequestId>) -> Self {
        Self { state: State::Forwarding { inner, limited }, id }
    }

    pub(super) fn check<S>(
        rules: Arc<Rules>,
        mut inner: S,
        (request, check): (Request<Body>, Check),
        id: Option<RequestId>,
    ) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = E, Future = F> + Send + 'static,
        F: Future<Output = Result<Response<Body>, E>> + Send + 'static,
    {
        let checked = Box::pin(async move {
            match rules.check(request, check).await {
                Ok(request) => inner.call(request).await,
                Err(problem) => Ok(problem.into()),
            }
        });
        Self { state: State::Checking { inner: checked }, id }
    }
}

impl Rules {
    /// Holds a body in memory under its limit and writes the one that is sent.
    async fn check(&self, request: Request<Body>, check: Check) -> Result<Request<Body>, Problem> {
        let (mut parts, body) = request.into_parts();
        let (Check::Input { limit } | Check::Token { limit }) = check;
        let body = collect(body, limit).await.map_err(|error| match error {
            CollectError::TooLarge { limit } => Problem::too_large(limit),
            CollectError::Broken(_) => Problem::new(StatusCode::BAD_REQUEST, "the request body ended early"),
        })?;
        let target = parts.extensions.get::<TargetUrl>();
        let sent = match (check, target.and_then(|target| target.call().endpoint.as_ref())) {
            (Check::Input { .. }, Some(endpoint)) => self.policies.apply(endpoint, parts.uri.query(), &body),
            (Check::Input { .. }, None) => Ok(body.into()),
            (Check::Token { .. }, _) => {
                let reach = target.map_or(Reach::Here, TargetUrl::reach);
                let checked = token_body::check(&body, (&self.allowed, reach), self.settings.token_life_s);
                checked.map(|(issuer, sent)| {
                    parts.extensions.insert(issuer);
                    sent
                })
            }
        };
        let sent = sent.map_err(Problem::invalid)?;
        Ok(Request::from_parts(parts, Body::from(sent)))
    }
}

impl<F, E> Future for ProxyFuture<F, E>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = match this.state.project() {
            Projected::Refused { problem } => problem.take().expect("a future is not polled after it is done").into(),
            Projected::Forwarding { inner, limited } => {
                let answer = std::task::ready!(inner.poll(cx))?;
                match limited {
                    // Whatever the inner service made of the broken body: the caller sent too much.
                    Some((overflow, limit)) if overflow.load(Ordering::Acquire) => Problem::too_large(*limit).into(),
                    _ => answer,
                }
            }
            Projected::Checking { inner } => std::task::ready!(inner.as_mut().poll(cx))?,
        };
        rewrite_response(answer.headers_mut());
        if let Some(id) = this.id {
            answer.headers_mut().entry(REQUEST_ID).or_insert_with(|| id.header());
        }
        Poll::Ready(Ok(answer))
    }
}
