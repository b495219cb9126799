//! Buffers for bytes on their way: lent for as long as something is in them, so that a quiet socket has none.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes read at once while there is memory for it: a message of 64 KiB and its header.
const LARGE: usize = 64 * 1024 + 64;
/// Bytes read at once when there is none.
const SMALL: usize = 4 * 1024;
/// Unused buffers that are kept.
const KEPT: usize = 16;

/// The buffers of all sockets. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct BufferPool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Box<[u8]>>,
    lent: usize,
}

/// A lent buffer, and how far its bytes have come.
///
/// `sent..ready` may go on, `ready..walked` was taken out, `walked..len` has not been looked at. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Box<[u8]>,
    /// Where it is given back to.
    pool: Option<BufferPool>,
    pub(super) sent: usize,
    pub(super) ready: usize,
    pub(super) walked: usize,
    pub(super) len: usize,
}

impl BufferPool {
    /// Lends at most `bytes` in large buffers.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Inner { most: bytes / LARGE, state: Mutex::default() }))
    }

    /// A large buffer, or a small one when none is left.
    pub(super) fn take(&self) -> Piece {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_large = state.lent < self.0.most;
        let free = if is_large {
            state.lent += 1;
            state.free.pop()
        } else {
            None
        };
        drop(state);
        let room = if is_large { LARGE } else { SMALL };
        let bytes = free.unwrap_or_else(|| vec![0; room].into_boxed_slice());
        let pool = is_large.then(|| self.clone());
        Piece { bytes, pool, sent: 0, ready: 0, walked: 0, len: 0 }
    }

    fn give_back(&self, bytes: Box<[u8]>) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lent -= 1;
        if state.free.len() < KEPT {
            state.free.push(bytes);
        }
    }
}

impl Piece {
    /// Bytes that came without a buffer of the pool.
    pub(super) fn loose(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), pool: None, sent: 0, ready: 0, walked: 0, len: bytes.len() }
    }

    /// Whether more can be read into it.
    pub(super) const fn is_loose(&self) -> bool {
        self.pool.is_none()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_budget_buffers_are_small() {
        let pool = BufferPool::new(2 * LARGE);
        let (first, second, third) = (pool.take(), pool.take(), pool.take());
        assert_eq!([first.bytes.len(), second.bytes.len(), third.bytes.len()], [LARGE, LARGE, SMALL]);
        drop(third);
        assert_eq!(pool.take().bytes.len(), SMALL, "a small one frees nothing");
        drop(first);
        assert_eq!(pool.take().bytes.len(), LARGE);
        drop(second);
    }
}
