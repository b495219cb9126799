//! How each end is told to both sides, in the words that their clients understand (protocol spec 6.6).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::join;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::direction::Direction;
use super::meaning::Stop;
use super::up::UpWatch;
use super::{BufferPool, End, Tunnel};
use crate::upstream::socket::control::{write_error, write_timeout};
use crate::upstream::socket::metrics::{RelayMetrics, Sender};
use crate::wire::MemoryBudget;
use crate::wire::frame::{CloseReason, FrameLimits, FrameSender, close_code, write_close};

/// Time for a message under way to end, and for a side to answer a close.
const GRACE: Duration = Duration::from_secs(2);

/// What a side may still send before it is cut off.
const LINGER_BYTES: usize = 256 * 1024;

/// What both sides are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Farewell {
    /// An `x-fal-error` frame in front of the close: its error and reason.
    pub(crate) text: Option<(&'static str, String)>,
    /// The client's close.
    pub(crate) client: CloseReason,
    /// fal's close.
    pub(crate) upstream: CloseReason,
}

const TIMEOUT: &str = "TIMEOUT";

fn reason(code: u16, text: impl Into<std::borrow::Cow<'static, str>>) -> CloseReason {
    CloseReason { code, text: text.into() }
}

impl Farewell {
    /// The words for an end.
    pub(crate) fn of(end: &End) -> Self {
        use close_code::{FAILED, GOING_AWAY, NORMAL, TOO_BIG};
        let quiet = |text| (text, reason(NORMAL, ""), reason(NORMAL, ""));
        let both = |client: CloseReason, upstream| (None, client, reason(upstream, ""));
        let (text, client, upstream) = match end {
            // A close without a code is answered with one: an empty echo is an error to JavaScript.
            End::ClientClosed(said) | End::UpstreamClosed(said) => {
                let said = said.clone().unwrap_or(reason(NORMAL, ""));
                (None, said.clone(), said)
            }
            End::Idle | End::Old | End::Drained | End::Stopped => quiet(Some((TIMEOUT, String::new()))),
            End::ClientLost | End::ClientStalled => both(reason(GOING_AWAY, ""), GOING_AWAY),
            End::ClientFault(breach) => {
                let code = breach.close_code();
                both(reason(code, breach.to_string()), if code == TOO_BIG { TOO_BIG } else { GOING_AWAY })
            }
            End::UpstreamFault(breach) => match breach.close_code() {
                TOO_BIG => both(reason(TOO_BIG, breach.to_string()), TOO_BIG),
                code => both(reason(FAILED, "the upstream sent what cannot be read"), code),
            },
            End::UpstreamLost => both(reason(FAILED, "the upstream broke off"), GOING_AWAY),
            End::UpstreamStalled => both(reason(FAILED, "the upstream takes nothing any more"), GOING_AWAY),
            End::Unauthorized => {
                (Some(("UPSTREAM_REFUSED", REFUSED.to_owned())), reason(NORMAL, ""), reason(NORMAL, ""))
            }
        };
        Self { text, client, upstream }
    }

    /// What a client hears of a socket that could not be opened.
    pub(crate) fn unopened(error: &'static str, said: String) -> Self {
        let close = reason(close_code::NORMAL, "");
        Self { text: Some((error, said)), client: close.clone(), upstream: close }
    }

    /// The client's frames.
    fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        match &self.text {
            Some((TIMEOUT, _)) => write_timeout(&mut frames),
            Some((error, said)) => write_error(&mut frames, error, said, None),
            None => {}
        }
        write_close(&mut frames, &self.client, None);
        frames
    }
}

/// What a client hears when fal takes neither token nor key.
pub(crate) const REFUSED: &str = "the upstream does not let this gate in";

/// Ends both sides: lets what is under way to the client end, tells both, and waits a moment for their answers.
pub(crate) async fn farewell<C, U>(tunnel: &mut Tunnel<C, U>, end: &End, words: Farewell)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let Tunnel { client, upstream, up, down, up_watch, down_watch, pool, .. } = tunnel;
    up_watch.stop();
    let hears = !matches!(end, End::ClientLost | End::ClientStalled);
    let speaks = !matches!(end, End::UpstreamLost | End::UpstreamClosed(_) | End::UpstreamFault(_) | End::Unauthorized);
    down.stop_at(if words.text.is_some() { Stop::AfterMessage } else { Stop::AfterFrame });
    if hears {
        if speaks {
            let _ =
                timeout(GRACE, poll_fn(|cx| down.pump(cx, (&mut *upstream, &mut *client), (down_watch, pool)))).await;
        }
        // A client that is in the middle of a frame cannot be told anything: its socket is cut.
        if down.is_stopped() {
            down.say(&words.frames());
            let _ = timeout(GRACE, write_out(down, client)).await;
        }
    }
    if !matches!(end, End::UpstreamLost | End::UpstreamStalled) && up.is_between_frames() {
        let mut close = Vec::new();
        write_close(&mut close, &words.upstream, Some(rand::random()));
        up.say(&close);
        let _ = timeout(GRACE, write_out(up, upstream)).await;
    }
    let client = async {
        if hears {
            let mut left = LINGER_BYTES;
            let closes = poll_fn(|cx| match end {
                End::ClientClosed(_) => Poll::Ready(()),
                End::ClientFault(_) => drain(cx, client, &mut left),
                _ => up.discard(cx, client, (up_watch, pool)),
            });
            let _ = timeout(GRACE, closes).await;
            let _ = timeout(GRACE, poll_fn(|cx| Pin::new(&mut *client).poll_shutdown(cx))).await;
        }
    };
    // Unread bytes would turn the end into a reset, and the close before it would be lost.
    let mut left = LINGER_BYTES;
    let _ = join(client, timeout(GRACE, poll_fn(|cx| drain(cx, upstream, &mut left)))).await;
}

/// Tells a client whose socket to fal could not be opened, and waits a moment for its close.
pub(crate) async fn refuse<C>(client: &mut C, words: Farewell, metrics: &RelayMetrics)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    const LIMITS: FrameLimits = FrameLimits { frame_bytes: 1 << 24, message_bytes: 1 << 24, fragments: 1 << 10 };
    let mut down = Direction::new(FrameSender::Server, LIMITS, metrics.direction(Sender::Upstream));
    down.say(&words.frames());
    let mut up = Direction::new(FrameSender::Client, LIMITS, metrics.direction(Sender::Client));
    let (mut watch, pool) = (UpWatch::new(MemoryBudget::new(0)), BufferPool::new(0));
    watch.stop();
    let _ = timeout(GRACE, async {
        write_out(&mut down, client).await?;
        poll_fn(|cx| up.discard(cx, client, (&mut watch, &pool))).await;
        poll_fn(|cx| Pin::new(&mut *client).poll_shutdown(cx)).await
    })
    .await;
}

async fn write_out<W: AsyncWrite + Unpin>(direction: &mut Direction, writer: &mut W) -> std::io::Result<()> {
    poll_fn(|cx| direction.poll_out(cx, writer)).await?;
    poll_fn(|cx| direction.poll_flushed(cx, writer)).await
}

/// Reads and drops until the end, or for as long as it is worth it.
fn drain<R: AsyncRead + Unpin>(cx: &mut Context<'_>, reader: &mut R, left: &mut usize) -> Poll<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); 4096];
    while *left > 0 {
        let mut room = ReadBuf::uninit(&mut space);
        match ready!(Pin::new(&mut *reader).poll_read(cx, &mut room)) {
            Ok(()) if !room.filled().is_empty() => *left = left.saturating_sub(room.filled().len()),
            Ok(()) | Err(_) => return Poll::Ready(()),
        }
    }
    Poll::Ready(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::socket::tunnel::end::Breach;
    use crate::wire::frame::FrameFault;

    #[test]
    fn a_close_without_a_code_is_answered_with_1000() {
        let words = Farewell::of(&End::ClientClosed(None));
        assert_eq!((words.client.code, words.upstream.code, words.text), (1000, 1000, None));
        assert_eq!(Farewell::of(&End::UpstreamClosed(None)).client.code, 1000);
        let said = reason(4001, "enough");
        assert_eq!(Farewell::of(&End::UpstreamClosed(Some(said.clone()))).client, said);
    }

    #[test]
    fn an_end_that_is_nobodys_fault_is_silent_and_a_failure_is_told_once() {
        for end in [End::Idle, End::Old, End::Drained] {
            let words = Farewell::of(&end);
            assert_eq!((words.text.map(|text| text.0), words.client.code), (Some("TIMEOUT"), 1000), "{end:?}");
        }
        // Clients report an error frame, and a close with another code than 1000: not both.
        for end in [End::UpstreamLost, End::UpstreamStalled] {
            let words = Farewell::of(&end);
            assert_eq!((words.text, words.client.code), (None, 1011), "{end:?}");
        }
        assert_eq!(Farewell::of(&End::Unauthorized).client.code, 1000);
    }

    #[test]
    fn too_large_is_1009_on_both_sides() {
        let breach = Breach::Frame(FrameFault::MessageTooLarge { limit: 1 });
        for end in [End::ClientFault(breach), End::UpstreamFault(breach)] {
            let words = Farewell::of(&end);
            assert_eq!((words.client.code, words.upstream.code), (1009, 1009), "{end:?}");
        }
        let words = Farewell::of(&End::UpstreamFault(Breach::Frame(FrameFault::Masked)));
        assert_eq!((words.client.code, words.upstream.code), (1011, 1002));
    }
}
