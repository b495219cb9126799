//! An answer's body on its way back, under an idle deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::plain::PlainBody;
use crate::wire::{Body, BodyError};

/// The other side paused for too long within a body.
#[derive(Debug, thiserror::Error)]
#[error("answer paused for {} ms", .0.as_millis())]
struct Paused(Duration);

/// Ends with an error when fal pauses for too long. Dropping it tells fal to stop.
///
/// The pause is measured only while somebody waits for bytes: a slow reader here is the business of whoever serves it.
struct AnswerBody {
    inner: Incoming,
    idle: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Puts an answer's body under the idle deadline.
pub(super) fn watched(inner: Incoming, idle: Duration) -> Body {
    if inner.is_end_stream() {
        return Body::empty();
    }
    Body::new(AnswerBody { inner, idle, pause: None })
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let idle = this.idle;
        let pause = this.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        std::task::ready!(pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(Paused(idle)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body that brings its bytes itself, from a connection without TLS.
struct DrivenBody {
    inner: PlainBody,
    idle: Duration,
    since: Option<Instant>,
}

/// Puts an answer's body under the idle deadline. An answer that is all there already costs nothing more, and its
/// connection is free for another call.
pub(super) fn driven(inner: PlainBody, idle: Duration) -> Body {
    match inner {
        PlainBody::Whole(rest) => Body::from(rest),
        coming => Body::new(DrivenBody { inner: coming, idle, since: None }),
    }
}

impl HttpBody for DrivenBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(data) = this.inner.poll_data(cx) {
            this.since = None;
            return Poll::Ready(data.map(|data| data.map(Frame::data).map_err(Into::into)));
        }
        let at = *this.since.get_or_insert_with(Instant::now) + this.idle;
        std::task::ready!(this.inner.poll_due(cx, at));
        Poll::Ready(Some(Err(Box::new(Paused(this.idle)))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
