//! Reading: from the socket, past the framer, into the buffer that hyper lends.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{GuardedIo, Late, PIECE};
use crate::gate::accept::framing::{Fault, HeadFault, Phase};

/// Bytes that may follow a handshake before it is answered.
const HELD: usize = 16 * 1024;

/// What waits on a connection that hyper does not hold.
pub(in crate::gate::accept) enum Waiting {
    /// A whole head, or its refusal.
    Request,
    /// The start of HTTP/2.
    Http2,
    /// The end.
    End,
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags and stream of an HTTP/2 frame.
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;

impl<T: AsyncRead + AsyncWrite + Unpin> GuardedIo<T> {
    /// Waits for a whole head without any buffer but the one that holds its first part.
    pub(in crate::gate::accept) fn poll_request(&mut self, cx: &mut Context<'_>, http2: Http2) -> Poll<Waiting> {
        loop {
            let ahead = self.ahead();
            let may_be_http2 = http2 != Http2::No
                && self.granted == 0
                && PREFACE.starts_with(&ahead[..ahead.len().min(PREFACE.len())]);
            if may_be_http2 && ahead.len() >= PREFACE.len() + FRAME_HEAD {
                // Hyper would take any first frame (RFC 9113, 3.4).
                if ahead[PREFACE.len() + 3..][..2] != [SETTINGS, 0] {
                    return Poll::Ready(Waiting::End);
                }
                self.tunnel();
                return Poll::Ready(Waiting::Http2);
            }
            if !may_be_http2 {
                if http2 == Http2::Only {
                    return Poll::Ready(Waiting::End);
                }
                self.examine();
                if self.granted > 0 {
                    return Poll::Ready(Waiting::Request);
                }
            }
            match self.poll_piece(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(_) => return Poll::Ready(Waiting::End),
                Poll::Pending => match ready!(self.poll_late(cx)) {
                    Late::Head if http2 != Http2::Only => self.refuse_slow(),
                    _ => return Poll::Ready(Waiting::End),
                },
            }
            if self.granted > 0 {
                return Poll::Ready(Waiting::Request);
            }
        }
    }

    /// Ready when the client has gone, while it is answered. What it sends meanwhile is kept, one piece of it.
    pub(in crate::gate::accept) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead().is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_piece(cx)) {
            Ok(true) => Poll::Pending,
            Ok(false) | Err(_) => Poll::Ready(()),
        }
    }

    fn refuse_slow(&mut self) {
        self.framer.break_off(HeadFault::Slow);
        self.refuse(Fault::Head(HeadFault::Slow));
    }

    /// Reads a piece into the own buffer; false at the end of the stream.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
        let bytes = piece.filled();
        self.keep(bytes);
        Poll::Ready(Ok(!bytes.is_empty()))
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.ahead.drain(..self.at);
            self.at = 0;
        }
        self.ahead.extend_from_slice(bytes);
        self.stuck = false;
    }

    /// Reads straight into the lent buffer and takes back what may not be handed on.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Step>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if bytes.is_empty() {
            return Poll::Ready(Ok(Step::HandedOn));
        }
        self.reading.moved(bytes.len());
        let taken = match self.framer.admit(bytes) {
            Ok(taken) => taken,
            Err(fault) => {
                buf.set_filled(before);
                self.refuse(fault);
                return Poll::Ready(Ok(Step::Again));
            }
        };
        if taken.bytes < bytes.len() {
            self.ahead.extend_from_slice(&bytes[taken.bytes..]);
            self.stuck = taken.bytes == 0;
        }
        self.note(taken);
        buf.set_filled(before + taken.bytes);
        Poll::Ready(Ok(if taken.bytes > 0 { Step::HandedOn } else { Step::Again }))
    }
}

enum Step {
    HandedOn,
    Again,
}

/// Whether HTTP/2 may, must or must not be spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gate::accept) enum Http2 {
    No,
    Maybe,
    Only,
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.granted == 0 && !this.ended {
                if this.framer.phase() == Phase::Held {
                    this.shared.held.register(cx.waker());
                }
                this.examine();
            }
            if this.granted > 0 {
                this.hand_on(buf);
                return Poll::Ready(Ok(()));
            }
            if this.broken {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "request body is malformed")));
            }
            if this.ended || (this.framer.phase() == Phase::Held && this.ahead().len() >= HELD) {
                // The refusal is being answered, and the answer ends the connection.
                return Poll::Pending;
            }
            let read = if this.ahead().is_empty() && this.framer.phase() != Phase::Held {
                this.poll_direct(cx, buf)
            } else {
                this.poll_piece(cx).map_ok(|more| if more { Step::Again } else { Step::HandedOn })
            };
            match read {
                Poll::Ready(Ok(Step::HandedOn)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Step::Again)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => match ready!(this.poll_late(cx)) {
                    Late::Head => this.refuse_slow(),
                    Late::Idle => return Poll::Ready(Ok(())),
                    Late::Body => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Late::Cut => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                },
            }
        }
    }
}
