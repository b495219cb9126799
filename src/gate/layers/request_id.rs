//! Gives every request an id, and every answer that id.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;
use uuid::Uuid;

use crate::wire::{REQUEST_ID, RequestId};

/// Adds a [`RequestId`] to each request, a UUID v4, and `x-fal-request-id` to each answer that has none yet: fal's own id
/// passes through.
#[derive(Debug, Clone)]
pub struct MarkId<S>(pub S);

impl<S, B, R> Service<Request<B>> for MarkId<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = MarkIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut text = Uuid::encode_buffer();
        let text = Uuid::new_v4().hyphenated().encode_lower(&mut text);
        let id = RequestId::new(text).expect("a UUID is digits, letters and dashes");
        request.extensions_mut().insert(id.clone());
        MarkIdFuture { inner: self.0.call(request), id }
    }
}

pin_project! {
    /// The answer with its id.
    pub struct MarkIdFuture<F> {
        #[pin]
        inner: F,
        id: RequestId,
    }
}

impl<F, R, E> Future for MarkIdFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        response.headers_mut().entry(REQUEST_ID).or_insert_with(|| this.id.header());
        Poll::Ready(Ok(response))
    }
}
