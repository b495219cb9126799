//! Where bytes are read into: few buffers a thread, used again while the processor still has them at hand.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes read at a time, and so the most of one answer that waits here for a slow reader.
pub(super) const PIECE_BYTES: usize = 128 * 1024;
/// Up to this size what was read is copied, and its buffer is free at once.
const COPIED_BYTES: usize = 8 * 1024;
/// Buffers that a thread keeps while nobody needs them.
const KEPT: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// A buffer and what was read into it. Goes back to a thread's spares when it is dropped.
pub(super) struct Piece(BytesMut);

impl Piece {
    fn lend() -> Self {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        Self(spare.unwrap_or_else(|| BytesMut::with_capacity(PIECE_BYTES)))
    }

    /// Reads what is there; an empty piece is the end of the stream.
    pub(super) fn poll_read<T: AsyncRead + Unpin>(from: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<Self>> {
        let mut piece = Self::lend();
        // Reads once and keeps nothing in itself, so that it may be dropped while it waits.
        ready!(pin!(from.read_buf(&mut piece.0)).poll(cx))?;
        Poll::Ready(Ok(piece))
    }

    /// What was read, from byte `at` on.
    pub(super) fn into_bytes(self, at: usize) -> Bytes {
        let rest = &self.as_ref()[at..];
        if rest.len() <= COPIED_BYTES { Bytes::copy_from_slice(rest) } else { Bytes::from_owner(self).slice(at..) }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        // A thread that ends has no spares any more; the buffer ends with it.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut from: &[u8]) -> Piece {
        std::future::poll_fn(|cx| Piece::poll_read(&mut from, cx)).await.unwrap()
    }

    #[tokio::test]
    async fn a_buffer_is_used_again_when_nobody_reads_it_any_more() {
        let long = vec![7; COPIED_BYTES + 2];
        let first = read(&long).await;
        let at = first.0.as_ptr();
        let bytes = first.into_bytes(1);
        assert_ne!(read(&long).await.0.as_ptr(), at, "it is still read");
        assert_eq!(bytes, long[1..]);
        drop(bytes);
        let again = read(b"short").await;
        assert_eq!(again.0.as_ptr(), at);
        assert_eq!(again.into_bytes(0), "short");
        assert_eq!(read(&long).await.0.as_ptr(), at, "a short piece is copied");
    }
}
