//! A body that ends with an error past a number of bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::wire::{Body, BodyError};

/// Set when a body ran over its limit, so that the answer can say so.
pub(super) type Overflow = Arc<AtomicBool>;

/// More bytes came than may pass.
#[derive(Debug, thiserror::Error)]
#[error("body is larger than {limit} bytes")]
struct TooLarge {
    limit: u64,
}

/// Counts what streams through and stops it past the limit. Nothing is collected.
pub(super) struct LimitedBody {
    inner: Body,
    limit: u64,
    left: u64,
    overflow: Overflow,
}

impl LimitedBody {
    pub(super) fn new(inner: Body, limit: u64) -> (Self, Overflow) {
        let overflow = Overflow::default();
        (Self { inner, limit, left: limit, overflow: Arc::clone(&overflow) }, overflow)
    }
}

impl HttpBody for LimitedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.overflow.store(true, Ordering::Release);
                    self.inner = Body::empty();
                    return Poll::Ready(Some(Err(Box::new(TooLarge { limit: self.limit }))));
                }
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && !self.overflow.load(Ordering::Acquire)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_stream_stops_at_its_limit_and_says_so() {
        let (body, overflow) = LimitedBody::new(Body::from("twelve bytes"), 11);
        assert!(body.collect().await.is_err());
        assert!(overflow.load(Ordering::Acquire));
        let (body, overflow) = LimitedBody::new(Body::from("twelve bytes"), 12);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "twelve bytes");
        assert!(!overflow.load(Ordering::Acquire));
    }
}
