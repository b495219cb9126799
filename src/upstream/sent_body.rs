//! A request body on its way to fal: tells how it gets on, and gives up on a caller that pauses for too long.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::error::UpstreamError;
use crate::wire::{Body, BodyError};

/// How a request body gets on; shared with the future that waits for the answer.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    last_ms: AtomicU64,
    fault: AtomicU8,
}

const NO_FAULT: u8 = 0;
const STALLED: u8 = 1;
const BROKE: u8 = 2;

impl Progress {
    fn new() -> Self {
        Self { began: Instant::now(), last_ms: AtomicU64::new(0), fault: AtomicU8::new(NO_FAULT) }
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX / 2);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// When the body last moved.
    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// What the caller did wrong, if that is why the call broke.
    pub(super) fn fault(&self) -> Option<UpstreamError> {
        match self.fault.load(Ordering::Acquire) {
            STALLED => Some(UpstreamError::CallerStalled),
            BROKE => Some(UpstreamError::CallerBroke),
            _ => None,
        }
    }
}

/// A request body under an idle deadline. A body that is all there, or empty, needs none and costs nothing.
pub(super) struct SentBody {
    inner: Body,
    watched: Option<Watched>,
}

struct Watched {
    progress: Arc<Progress>,
    idle: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl SentBody {
    pub(super) fn new(inner: Body, idle: Duration) -> (Self, Option<Arc<Progress>>) {
        if inner.is_in_memory() || inner.is_end_stream() {
            return (Self { inner, watched: None }, None);
        }
        let progress = Arc::new(Progress::new());
        let watched = Watched { progress: Arc::clone(&progress), idle, pause: None };
        (Self { inner, watched: Some(watched) }, Some(progress))
    }
}

impl HttpBody for SentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        let Some(watched) = &mut this.watched else { return polled };
        match polled {
            Poll::Ready(frame) => {
                watched.pause = None;
                watched.progress.touch();
                if matches!(frame, Some(Err(_))) {
                    watched.progress.fault.store(BROKE, Ordering::Release);
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                let idle = watched.idle;
                let pause = watched.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
                std::task::ready!(pause.as_mut().poll(cx));
                watched.progress.fault.store(STALLED, Ordering::Release);
                Poll::Ready(Some(Err(Box::new(UpstreamError::CallerStalled))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
