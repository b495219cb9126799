//! Memory that bodies under way may fill together.

use std::sync::Arc;

use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::Body;

/// A bound on the bytes of all bodies that are being collected. Cheap to clone; clones share the bound.
#[derive(Debug, Clone)]
pub(super) struct MemoryBudget {
    kib: Arc<Semaphore>,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved(OwnedSemaphorePermit);

impl Reserved {
    /// Adds another part of the same budget.
    pub(super) fn merge(&mut self, other: Self) {
        self.0.merge(other.0);
    }

    /// Takes a part of this part, at most all of it.
    pub(super) fn split(&mut self, kib: u32) -> Option<Self> {
        let kib = (kib as usize).min(self.0.num_permits());
        self.0.split(kib).map(Self)
    }
}

impl MemoryBudget {
    /// A budget of `bytes`, counted in KiB.
    pub(super) fn new(bytes: u64) -> Self {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let kib = usize::try_from(bytes / 1024).unwrap_or(most).clamp(1, most);
        Self { kib: Arc::new(Semaphore::new(kib)) }
    }

    /// Takes the room that `body` can need: what it announces, else `limit`. `None` where that much is not free.
    pub(super) fn reserve(&self, body: &Body, limit: u64) -> Option<Reserved> {
        let bytes = body.size_hint().upper().unwrap_or(limit).min(limit);
        self.reserve_kib(u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX))
    }

    /// Takes so much room. `None` where that much is not free.
    pub(super) fn reserve_kib(&self, kib: u32) -> Option<Reserved> {
        Arc::clone(&self.kib).try_acquire_many_owned(kib).ok().map(Reserved)
    }
}
