//! A panic while a request is answered costs that request, not its connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::wire::{Body, Problem};

/// Answers 500 where the inner service panics. The panic hook has told the operator by then; the caller hears nothing of
/// it. Bodies that panic while they stream end their connection.
#[derive(Debug, Clone)]
pub struct CatchPanic<S>(pub S);

impl<S, B> Service<Request<B>> for CatchPanic<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = CatchPanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // What the call left half done goes with its service: the edge gives every connection a clone of its own.
        CatchPanicFuture { inner: catch_unwind(AssertUnwindSafe(|| self.0.call(request))).ok() }
    }
}

pin_project! {
    /// The answer, or 500.
    pub struct CatchPanicFuture<F> {
        #[pin]
        inner: Option<F>,
    }
}

impl<F, E> Future for CatchPanicFuture<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.project().inner.as_pin_mut();
        let polled = inner.map(|inner| catch_unwind(AssertUnwindSafe(|| inner.poll(cx))));
        match polled {
            Some(Ok(poll)) => poll,
            Some(Err(_)) | None => {
                let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
                Poll::Ready(Ok(problem.with_error_type("internal_error").into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_with_500() {
        let service = CatchPanic(service_fn(async |_: Request<Body>| -> Result<Response<Body>, Infallible> {
            panic!("the test wants it");
        }));
        let answer = service.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
