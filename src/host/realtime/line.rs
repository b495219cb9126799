//! The stream below a socket: everything that comes is metered before it is parsed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::meter::{Breach, Meter};
use super::settings::RealtimeSettings;

/// Bytes that are read ahead of the parser. It keeps this much for each socket that moves.
const AHEAD: usize = 4 * 1024;
/// An echo of a close without a code, as the parser writes it, and what is sent in its place.
const EMPTY_CLOSE: [u8; 2] = [0x88, 0x00];
const NORMAL_CLOSE: [u8; 4] = [0x88, 0x02, 0x03, 0xE8];

/// A metered stream.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    pub(super) meter: Meter,
    pub(super) breach: Option<Breach>,
    /// When the page was last heard.
    pub(super) heard_at: Instant,
    plain_close: PlainClose,
}

/// What becomes of an empty close that the parser echoes. Browsers report a close without a code as 1005, which FC shows as
/// an error though the page itself asked for it; 1000 stays silent (protocol spec 6.6, rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlainClose {
    Passed,
    /// It becomes 1000; so many bytes of that are written.
    Filled(usize),
}

impl<S> Metered<S> {
    pub(super) const fn new(inner: S, meter: Meter, now: Instant) -> Self {
        Self { inner, meter, breach: None, heard_at: now, plain_close: PlainClose::Passed }
    }

    /// Answers a close without a code by 1000.
    pub(super) const fn fill_plain_close(&mut self) {
        self.plain_close = PlainClose::Filled(0);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if bytes.is_empty() || self.breach.is_some() {
            return Poll::Ready(Ok(()));
        }
        let now = Instant::now();
        self.heard_at = now;
        if let Err(breach) = self.meter.follow(bytes, now) {
            self.breach = Some(breach);
            buf.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let PlainClose::Filled(mut sent) = this.plain_close else {
            return Pin::new(&mut this.inner).poll_write(cx, bytes);
        };
        match bytes.strip_suffix(&EMPTY_CLOSE) {
            Some([]) => {
                while sent < NORMAL_CLOSE.len() {
                    sent += ready!(Pin::new(&mut this.inner).poll_write(cx, &NORMAL_CLOSE[sent..]))?;
                    this.plain_close = PlainClose::Filled(sent);
                }
                Poll::Ready(Ok(bytes.len()))
            }
            // What is in front of it goes first; the parser comes back for the rest.
            Some(front) => Pin::new(&mut this.inner).poll_write(cx, front),
            None => Pin::new(&mut this.inner).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A socket's line.
pub(super) type Line = WebSocketStream<Metered<TokioIo<Upgraded>>>;

/// Begins to speak on a stream.
pub(super) fn open(stream: Metered<TokioIo<Upgraded>>, settings: &RealtimeSettings) -> Line {
    let opening = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config(settings)));
    opening.now_or_never().expect("a handshake that is skipped takes no time")
}

/// Begins anew with fresh buffers. The line must hold nothing that was read or is to be written.
pub(super) fn renew(line: Line, settings: &RealtimeSettings) -> Line {
    open(line.into_inner(), settings)
}

fn config(settings: &RealtimeSettings) -> WebSocketConfig {
    let message = settings.message_bytes.get() as usize;
    WebSocketConfig::default()
        .read_buffer_size(AHEAD)
        // Small frames wait for the flush, so that last words and the close leave in one write.
        .write_buffer_size(AHEAD)
        .max_write_buffer_size(settings.result_bytes.get() as usize + 4 * AHEAD)
        .max_message_size(Some(message))
        .max_frame_size(Some(message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use crate::host::budget::MemoryBudget;

    use super::*;

    #[tokio::test]
    async fn an_empty_close_leaves_as_1000_whatever_is_written_before_it() {
        for room in 1..12 {
            let (near, mut far) = duplex(room);
            let now = Instant::now();
            let meter = Meter::new(&RealtimeSettings::default(), MemoryBudget::new(1024), now);
            let mut line = Metered::new(near, meter, now);
            line.fill_plain_close();
            let writing = tokio::spawn(async move {
                line.write_all(b"\x8a\x01a\x88\x00").await.unwrap();
            });
            let mut read = [0; 7];
            tokio::time::timeout(Duration::from_secs(10), far.read_exact(&mut read)).await.unwrap().unwrap();
            writing.await.unwrap();
            assert_eq!(&read, b"\x8a\x01a\x88\x02\x03\xe8", "{room}");
        }
    }
}
