//! The body of an HTTP/2 request, at the pace that its sender must keep.
//!
//! Streams share a connection whose bytes flow all the time, so the deadline of reads does not see the one that stands still.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::deadline::{Pace, PaceRule};
use crate::upstream::Alarm;
use crate::wire::BodyError;

/// The sender fell behind.
#[derive(Debug, thiserror::Error)]
#[error("request body came too slowly")]
struct TooSlow;

/// Ends with an error when its sender falls behind. Only time in which the body is waited for counts.
#[derive(Debug)]
pub(super) struct PacedBody<B> {
    inner: B,
    rule: PaceRule,
    pace: Pace,
    alarm: Alarm,
}

impl<B> PacedBody<B> {
    pub(super) fn new(inner: B, rule: PaceRule) -> Self {
        Self { inner, rule, pace: Pace::default(), alarm: Alarm::default() }
    }
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                this.pace.moved(data.map_or(0, Bytes::len));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                ready!(this.alarm.poll(cx, this.pace.wait(&this.rule)));
                Poll::Ready(Some(Err(Box::new(TooSlow))))
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
