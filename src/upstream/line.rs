//! A connection that can be given up from outside, at once and for good.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

/// A connection to fal. Once it is given up, not a byte is written to it or read from it.
pub(super) struct Line<T> {
    inner: T,
    end: LineEnd,
}

/// Gives a [`Line`] up. It comes with every answer, in the extensions.
#[derive(Clone)]
pub(super) struct LineEnd(Arc<State>);

struct State {
    given_up: AtomicBool,
    reader: AtomicWaker,
}

impl LineEnd {
    /// Ends the connection: what it said cannot be told apart from what it will say.
    pub(super) fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Release);
        self.0.reader.wake();
    }

    fn is_given_up(&self) -> bool {
        self.0.given_up.load(Ordering::Acquire)
    }
}

impl<T> Line<T> {
    pub(super) fn new(inner: T) -> Self {
        let state = State { given_up: AtomicBool::new(false), reader: AtomicWaker::new() };
        Self { inner, end: LineEnd(Arc::new(state)) }
    }
}

impl<T: Connection> Connection for Line<T> {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.end.clone());
        if self.inner.connected().is_negotiated_h2() { connected.negotiated_h2() } else { connected }
    }
}

impl<T: Read + Unpin> Read for Line<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.end.0.reader.register(cx.waker());
        if self.end.is_given_up() {
            // Nothing was put into the buffer: the end of the stream.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Line<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.end.is_given_up() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.end.is_given_up() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
