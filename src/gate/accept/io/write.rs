//! Writing, at the pace that a reader must keep, and the end of a connection.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{GuardedIo, PIECE};
use crate::gate::accept::framing::Phase;

/// What a client that is being refused may still send before it is cut off.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(2);

impl<T: AsyncRead + AsyncWrite + Unpin> GuardedIo<T> {
    /// Judges how a write went: bytes taken, or a reader that keeps us waiting.
    fn pace_write(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if self.writing.is_waiting() || bytes > 0 {
                    self.writing.moved(bytes);
                }
                self.shared.blocked.store(false, Ordering::Release);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.shared.blocked.store(true, Ordering::Release);
                let at = self.writing.wait(&self.write_rule);
                ready!(self.alarm.poll(cx, at));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Reads on for a moment after a refusal, so that the answer is not lost in a reset.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let unread = self.ended || !self.shared.between.load(Ordering::Acquire);
        if !unread || self.framer.phase() == Phase::Tunnel {
            return Poll::Ready(Ok(()));
        }
        let (until, _) = *self.linger.get_or_insert_with(|| (Instant::now() + LINGER, 0));
        let mut space = [MaybeUninit::uninit(); PIECE];
        loop {
            let mut piece = ReadBuf::uninit(&mut space);
            let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, &mut piece) else {
                ready!(self.alarm.poll(cx, until));
                return Poll::Ready(Ok(()));
            };
            let bytes = piece.filled().len();
            let sum = self.linger.as_mut().map_or(0, |(_, sum)| {
                *sum += bytes;
                *sum
            });
            if read.is_err() || bytes == 0 || sum > LINGER_BYTES {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.pace_write(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.pace_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx).map_ok(|()| 0);
        self.pace_write(cx, flushed).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            let closed = Pin::new(&mut self.inner).poll_shutdown(cx).map_ok(|()| 0);
            ready!(self.pace_write(cx, closed))?;
        }
        self.poll_linger(cx)
    }
}
