//! A service that may not be there.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tower_service::Service;

use crate::wire::{Body, Problem};

/// A service, or the answer that stands for its absence.
#[derive(Debug, Clone)]
pub enum Optional<S> {
    /// It is there.
    Some(S),
    /// It is not, and this says so.
    None(Problem),
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for Optional<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self {
            Self::Some(service) => service.poll_ready(cx),
            Self::None(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self {
            Self::Some(service) => Either::Left(service.call(request)),
            Self::None(problem) => Either::Right(ready(Ok(problem.clone().into()))),
        }
    }
}
