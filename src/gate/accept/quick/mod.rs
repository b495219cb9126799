//! Answers plain HTTP/1.1 requests without hyper: those that arrived whole, and ask for nothing but an answer.
//!
//! Whatever else comes is left to hyper, as it came: bodies that are still on their way, chunked ones, handshakes,
//! expectations, HTTP/1.0, `connection: close`, and refusals. The framer has judged each head before it is looked at here,
//! deadlines are those of the guarded connection, and drain ends it as it ends hyper.

mod answer;
mod request;

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower_service::Service;

use self::answer::{Broken, Sending};
use super::connections::{Stage, StageWatch};
use super::io::{GuardedIo, Http2, Waiting};
use super::service::EdgeService;
use super::settings::{LimitSettings, ms};
use crate::upstream::Alarm;
use crate::wire::{Body, BodyError};

/// Why no more is answered here.
pub(super) enum Left {
    /// The connection has ended.
    Ended,
    /// No request came for a while.
    Quiet,
    /// A request came that is not for here; nothing of it was taken.
    Other,
}

/// Answers requests until the connection ends or falls quiet, or another kind of request comes. `io` holds a whole head.
pub(super) async fn serve<T, S, B>(
    io: &mut GuardedIo<T>,
    service: &EdgeService<S>,
    settings: &LimitSettings,
    old_at: Option<Instant>,
) -> Left
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BodyError>,
{
    io.idle_until = None;
    let mut watch = io.pass().connections().watch();
    let mut park = Alarm::default();
    let mut out = Vec::new();
    while let Some(request) = request::take(io) {
        let answer = {
            let mut call = pin!(service.enter(request));
            let answered = std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
                Poll::Ready(Ok(answer)) => Poll::Ready(Some(answer)),
                Poll::Pending => poll_cut(io, &mut watch, cx).map(|()| None),
            });
            answered.await
        };
        let Some(answer) = answer else { return Left::Ended };
        let is_last = watch.stage() > Stage::Serving || old_at.is_some_and(|at| at <= Instant::now());
        match send(io, answer, is_last.then_some(Last), Desk { out: &mut out, watch: &mut watch }).await {
            Sent::Whole => {}
            Sent::Last => {
                // Whether the goodbye arrives is the client's business.
                let _ = std::future::poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await;
                return Left::Ended;
            }
            Sent::CutShort => return Left::Ended,
        }
        let mut since = None;
        let next = std::future::poll_fn(|cx| {
            let stage = watch.poll(cx);
            if stage == Stage::Closing || (stage == Stage::Draining && io.ahead().is_empty()) {
                return Poll::Ready(Some(Waiting::End));
            }
            if let Poll::Ready(waiting) = io.poll_request(cx, Http2::No) {
                return Poll::Ready(Some(waiting));
            }
            if !io.ahead().is_empty() {
                return Poll::Pending;
            }
            let quiet_at = *since.get_or_insert_with(Instant::now) + ms(settings.park_ms);
            park.poll(cx, quiet_at).map(|()| None)
        });
        match next.await {
            Some(Waiting::Request) => {}
            Some(Waiting::Http2 | Waiting::End) => return Left::Ended,
            None => return Left::Quiet,
        }
    }
    Left::Other
}

/// The answer is the last one on its connection.
struct Last;

/// What every answer of a connection is written with.
struct Desk<'a> {
    out: &'a mut Vec<u8>,
    watch: &'a mut StageWatch,
}

/// How the writing of an answer ended.
enum Sent {
    /// Wholly; another may follow.
    Whole,
    /// Wholly, and it said that the connection ends.
    Last,
    /// The client has gone, or was told less than was announced.
    CutShort,
}

/// Writes an answer. Nothing of it is left when this is done: a connection that waits for its next request holds neither
/// the body nor the buffer that its last piece was read into.
async fn send<T, B>(io: &mut GuardedIo<T>, answer: Response<B>, last: Option<Last>, desk: Desk<'_>) -> Sent
where
    T: AsyncRead + AsyncWrite + Unpin,
    B: HttpBody<Data = Bytes>,
{
    let (parts, body) = answer.into_parts();
    let mut body = pin!(body);
    let mut sending = Sending::begin(&parts, &*body, last.is_some(), desk.out);
    drop(parts);
    let sent = std::future::poll_fn(|cx| {
        sending.poll(io, body.as_mut(), cx).map(Some).or_else_pending(|| poll_cut(io, desk.watch, cx).map(|()| None))
    });
    match sent.await {
        Some(Ok(())) if sending.is_last() => Sent::Last,
        Some(Ok(())) => Sent::Whole,
        Some(Err(Broken)) | None => Sent::CutShort,
    }
}

/// Ready when nobody waits for the answer any more, or the gate's time is up.
fn poll_cut<T>(io: &mut GuardedIo<T>, watch: &mut StageWatch, cx: &mut Context<'_>) -> Poll<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    if watch.poll(cx) == Stage::Closing {
        return Poll::Ready(());
    }
    io.poll_gone(cx)
}

/// What to try while something is not ready.
trait OrElsePending: Sized {
    fn or_else_pending(self, other: impl FnOnce() -> Self) -> Self;
}

impl<T> OrElsePending for Poll<T> {
    fn or_else_pending(self, other: impl FnOnce() -> Self) -> Self {
        if self.is_pending() { other() } else { self }
    }
}
