//! Every open connection is counted here: against the limits, per address, and until the last one has ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// What a limit is counted by: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressBlock(u128);

impl AddressBlock {
    /// The block that an address belongs to. IPv4 inside IPv6 counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().to_bits()),
            IpAddr::V6(v6) => Self(v6.to_bits() & !u128::from(u64::MAX)),
        }
    }
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// The limit on all connections is reached.
    #[error("too many connections")]
    InAll,
    /// The limit on connections of one address is reached.
    #[error("too many connections from this address")]
    FromAddress,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Finishing what is in flight, taking nothing new.
    Draining,
    /// The deadline has passed: everything is cut.
    Closing,
}

/// The register of open connections. Clones share it.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    limit_per_address: usize,
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    stage: AtomicU8,
    stage_changed: Arc<Notify>,
    one_ended: Notify,
    by_address: Mutex<HashMap<AddressBlock, usize>>,
}

impl Connections {
    /// An empty register.
    #[must_use]
    pub fn new(limit: usize, limit_per_address: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            limit_per_address,
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            stage: AtomicU8::new(0),
            stage_changed: Arc::new(Notify::new()),
            one_ended: Notify::new(),
            by_address: Mutex::new(HashMap::new()),
        }))
    }

    /// Takes a connection in. It counts until the pass is dropped, upgraded sockets too.
    ///
    /// `address` is `None` for a trusted proxy, which only counts in all.
    ///
    /// # Errors
    /// [`TooMany`] at a limit.
    pub fn admit(&self, address: Option<IpAddr>) -> Result<Pass, TooMany> {
        let inner = &self.0;
        if inner.open.fetch_add(1, Ordering::AcqRel) >= inner.limit {
            inner.open.fetch_sub(1, Ordering::AcqRel);
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(TooMany::InAll);
        }
        let block = address.map(AddressBlock::of);
        if let Some(block) = block
            && !inner.count(block)
        {
            inner.open.fetch_sub(1, Ordering::AcqRel);
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(TooMany::FromAddress);
        }
        inner.accepted.fetch_add(1, Ordering::Relaxed);
        Ok(Pass { connections: self.clone(), block })
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Acquire)
    }

    /// Connections taken in since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Connections refused at a limit since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// How far the end has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.0.stage.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Closing,
        }
    }

    /// Waits until the stage is `stage` or later. Owners of upgraded sockets wait here for their time to say goodbye.
    pub async fn reached(&self, stage: Stage) {
        loop {
            let changed = self.stage_change();
            if self.stage() >= stage {
                return;
            }
            changed.await;
        }
    }

    /// Waits until no connection is open.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.0.one_ended.notified();
            if self.open() == 0 {
                return;
            }
            ended.await;
        }
    }

    fn stage_change(&self) -> OwnedNotified {
        Arc::clone(&self.0.stage_changed).notified_owned()
    }

    /// A watch that wakes the polling task at every change of stage.
    pub(super) fn watch(&self) -> StageWatch {
        StageWatch { connections: self.clone(), change: Box::pin(self.stage_change()) }
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.0.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.0.stage_changed.notify_waiters();
    }
}

impl Inner {
    /// Counts one more connection of a block, if there may be one.
    fn count(&self, block: AddressBlock) -> bool {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let here = by_address.entry(block).or_insert(0);
        let fits = *here < self.limit_per_address;
        *here += usize::from(fits);
        fits
    }
}

/// Tells one task of every change of stage.
#[derive(Debug)]
pub(super) struct StageWatch {
    connections: Connections,
    change: Pin<Box<OwnedNotified>>,
}

impl StageWatch {
    /// The stage now; nobody is woken for it.
    pub(super) fn stage(&self) -> Stage {
        self.connections.stage()
    }

    /// The stage now; the task is woken when it changes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Stage {
        let stage = self.connections.stage();
        // The last stage does not change, and a notice that was heard must not be polled again.
        while stage < Stage::Closing && self.change.as_mut().poll(cx).is_ready() {
            self.change = Box::pin(self.connections.stage_change());
        }
        self.connections.stage()
    }
}

/// The place of one connection. Dropping it frees the place.
#[derive(Debug)]
pub struct Pass {
    connections: Connections,
    block: Option<AddressBlock>,
}

impl Pass {
    pub(super) const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Counts the connection of a trusted proxy on the address for which it was opened, from now on.
    pub(super) fn count_on(&mut self, address: IpAddr) -> Result<(), TooMany> {
        let (inner, block) = (&self.connections.0, AddressBlock::of(address));
        debug_assert!(self.block.is_none(), "a proxy's connection is counted on nobody yet");
        if !inner.count(block) {
            inner.refused.fetch_add(1, Ordering::Relaxed);
            return Err(TooMany::FromAddress);
        }
        self.block = Some(block);
        Ok(())
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let inner = &self.connections.0;
        if let Some(block) = self.block {
            let mut by_address = inner.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(here) = by_address.get_mut(&block) {
                *here -= 1;
                if *here == 0 {
                    by_address.remove(&block);
                }
            }
        }
        inner.open.fetch_sub(1, Ordering::AcqRel);
        inner.one_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let connections = Connections::new(3, 2);
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let first = connections.admit(Some(one)).unwrap();
        let _second = connections.admit(Some("::ffff:10.0.0.1".parse().unwrap())).unwrap();
        assert_eq!(connections.admit(Some(one)).unwrap_err(), TooMany::FromAddress);
        let _proxy = connections.admit(None).unwrap();
        assert_eq!(connections.admit(None).unwrap_err(), TooMany::InAll);
        drop(first);
        assert!(connections.admit(Some(one)).is_ok());
        assert_eq!((connections.open(), connections.accepted(), connections.refused()), (2, 4, 2));
    }

    proptest::proptest! {
        #[test]
        fn hopping_within_a_64_stays_in_one_block(net: u64, one: u64, two: u64) {
            let address = |low: u64| IpAddr::from((u128::from(net) << 64 | u128::from(low)).to_be_bytes());
            // The one prefix that carries IPv4 inside is no network of anybody's.
            proptest::prop_assume!(net != 0);
            proptest::prop_assert_eq!(AddressBlock::of(address(one)), AddressBlock::of(address(two)));
        }
    }

    #[tokio::test]
    async fn the_end_is_heard_by_those_who_wait_for_it() {
        let connections = Connections::new(9, 9);
        let pass = connections.admit(None).unwrap();
        let waiting = tokio::spawn({
            let connections = connections.clone();
            async move { connections.reached(Stage::Draining).await }
        });
        tokio::task::yield_now().await;
        connections.enter(Stage::Closing);
        waiting.await.unwrap();
        connections.enter(Stage::Draining);
        assert_eq!(connections.stage(), Stage::Closing);
        drop(pass);
        connections.all_ended().await;
    }
}
