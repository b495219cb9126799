//! Memory that bodies may fill together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body::Body as _;

use super::body::collect_while;
use super::{Body, CollectError};

/// A bound on the bytes of all bodies that are held at the same time. Cheap to clone; clones share the bound.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: u64,
    taken: AtomicU64,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reserved {
    budget: MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Inner { limit, taken: AtomicU64::new(0) }))
    }

    /// Takes so many bytes. `None` where they are not free.
    #[must_use]
    pub fn reserve(&self, bytes: u64) -> Option<Reserved> {
        self.take(bytes).then(|| Reserved { budget: self.clone(), bytes })
    }

    /// Collects `body` into memory as [`super::collect`] does. Room is taken for bytes as they come: a sender that announces
    /// much and sends little keeps nobody out.
    ///
    /// # Errors
    /// [`CollectError`]; [`CollectError::NoRoom`] where what has come, or what is announced, is more than is free.
    pub async fn collect(&self, body: Body, limit: u64) -> Result<(Bytes, Reserved), CollectError> {
        let announced = body.size_hint().lower();
        if announced <= limit && announced > self.free() {
            return Err(CollectError::NoRoom);
        }
        let mut held = Reserved { budget: self.clone(), bytes: 0 };
        let bytes = collect_while(body, limit, |bytes| held.grow(bytes)).await?;
        Ok((bytes, held))
    }

    /// What is free now.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.0.limit.saturating_sub(self.0.taken.load(Ordering::Acquire))
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= self.0.limit);
        self.0.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }
}

impl Reserved {
    /// Adds another part of the same budget.
    pub fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Takes a part of this part: `bytes`, at most all of it.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: self.budget.clone(), bytes }
    }

    fn grow(&mut self, bytes: u64) -> bool {
        let fits = self.budget.take(bytes);
        self.bytes += if fits { bytes } else { 0 };
        fits
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_missing_until_it_is_given_back() {
        let budget = MemoryBudget::new(10);
        let (six, held) = budget.clone().collect(Body::from("sixsix"), 100).await.unwrap();
        assert_eq!(six, "sixsix");
        assert!(matches!(budget.collect(Body::from("fives"), 100).await, Err(CollectError::NoRoom)));
        assert!(matches!(budget.collect(Body::from("fives"), 4).await, Err(CollectError::TooLarge { limit: 4 })));
        let four = budget.reserve(4).unwrap();
        assert!(budget.reserve(1).is_none());
        drop(held);
        assert!(budget.collect(Body::from("sixsix"), 6).await.is_ok());
        drop(four);
        assert!(budget.reserve(10).is_some());
    }

    #[tokio::test]
    async fn a_body_that_announces_nothing_takes_room_as_it_comes() {
        let budget = MemoryBudget::new(10);
        let pieces =
            ["four", "four", "four"].map(|piece| Ok::<_, std::io::Error>(http_body::Frame::data(piece.into())));
        let body = Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(pieces)));
        assert!(matches!(budget.collect(body, 100).await, Err(CollectError::NoRoom)));
        assert!(budget.reserve(10).is_some(), "all of it was given back");
    }
}
