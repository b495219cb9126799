//! How a request that never became one is answered: in its turn, as JSON, by the first service.
//!
//! The connection puts a stand-in request in the place of one that it refuses. [`RefusalLayer`] answers it and lets
//! everything else pass. A client that sends the stand-in's header itself is refused too, which is all it can gain.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{HeaderName, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::framing::HeadFault;
use crate::wire::{Body, Problem, ToProblem};

const MALFORMED: HeaderName = HeaderName::from_static("x-falgate-malformed");

/// The request that stands in for a refused one.
pub(super) fn stand_in(fault: HeadFault) -> String {
    format!("GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n{MALFORMED}: {}\r\n\r\n", fault.word())
}

/// Why the connection refused this request, if it did.
#[must_use]
pub fn refusal<B>(request: &Request<B>) -> Option<Problem> {
    if let Some(fault) = request.extensions().get::<HeadFault>() {
        return Some(fault.to_problem());
    }
    let word = request.headers().get(MALFORMED)?;
    Some(HeadFault::from_word(word.as_bytes()).to_problem())
}

/// Answers refused requests, before anything else looks at them.
#[derive(Debug, Clone, Copy, Default)]
pub struct RefusalLayer;

impl<S> Layer<S> for RefusalLayer {
    type Service = Refusal<S>;

    fn layer(&self, inner: S) -> Refusal<S> {
        Refusal { inner }
    }
}

/// The service of [`RefusalLayer`].
#[derive(Debug, Clone)]
pub struct Refusal<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Refusal<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match refusal(&request) {
            None => Either::Left(self.inner.call(request)),
            Some(problem) => Either::Right(ready(Ok(problem.into()))),
        }
    }
}
