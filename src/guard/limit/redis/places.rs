//! Places that are leased from a store: renewed while they are held, given back when they are let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Inner;

/// The places that this gate holds: one entry a call or socket under way.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<u128, Arc<[String]>>>);

/// What is done behind a caller's back.
pub(super) enum Errand {
    /// Puts right what was charged.
    Settle {
        keys: Vec<String>,
        numbers: Vec<i64>,
        /// Counts what could not be put right.
        lost: Counter,
    },
    /// Finds out whether the store answers again.
    Look,
    /// Gives a place back.
    GiveBack { place: u128, keys: Arc<[String]> },
}

/// A place in some limits, given back when dropped.
pub(super) struct HeldPlace {
    name: u128,
    keys: Arc<[String]>,
    places: Arc<Places>,
    errands: mpsc::Sender<Errand>,
}

impl std::fmt::Debug for HeldPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldPlace").finish_non_exhaustive()
    }
}

impl Places {
    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<u128, Arc<[String]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldPlace {
    /// Holds the place `name` that is about to be taken under `keys`. Dropped too early, it gives back what was never
    /// taken, which does no harm.
    pub(super) fn new(store: &Inner, name: u128, keys: Vec<String>) -> Self {
        let keys: Arc<[String]> = keys.into();
        Self { name, keys, places: Arc::clone(&store.places), errands: store.errands.clone() }
    }

    /// It was taken: from now on it is renewed.
    pub(super) fn keep(&self) {
        self.places.held().insert(self.name, Arc::clone(&self.keys));
    }

    /// It was not taken: there is nothing to give back.
    pub(super) fn forget(mut self) {
        self.keys = Arc::new([]);
    }
}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        self.places.held().remove(&self.name);
        if self.keys.is_empty() {
            return;
        }
        // Where there is no room for the errand, the lease ends by itself.
        let _ = self.errands.try_send(Errand::GiveBack { place: self.name, keys: Arc::clone(&self.keys) });
    }
}

/// The name of a place as the store has it.
pub(super) fn name_of(place: u128) -> String {
    format!("{place:032x}")
}

/// Runs errands until the store is let go.
pub(super) async fn run_errands(store: Weak<Inner>, mut waiting: mpsc::Receiver<Errand>) {
    while let Some(errand) = waiting.recv().await {
        let Some(store) = store.upgrade() else { return };
        match errand {
            Errand::Settle { keys, numbers, lost } => {
                let mut call = store.settle.prepare_invoke();
                for key in keys.iter() {
                    call.key(key);
                }
                for number in &numbers {
                    call.arg(*number);
                }
                if store.run::<u8>(&call).await.is_err() {
                    lost.inc();
                }
            }
            Errand::Look => {
                // Whoever asks next sees what came of it.
                let _ = store.run::<u8>(store.settle.prepare_invoke().arg(0)).await;
            }
            Errand::GiveBack { place, keys } => {
                // Where it fails, the lease ends by itself.
                let _ = hold(&store, place, (&keys, 0)).await;
            }
        }
    }
}

/// Renews all places, three times a lease, until the store is let go.
pub(super) async fn renew(store: Weak<Inner>) {
    let Some(every) = store.upgrade().map(|store| store.place_lease / 3) else { return };
    let mut ticks = tokio::time::interval(every.max(std::time::Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(store) = store.upgrade() else { return };
        let held: Vec<_> = store.places.held().iter().map(|(place, keys)| (*place, Arc::clone(keys))).collect();
        let lease = u64::try_from(store.place_lease.as_millis()).unwrap_or(u64::MAX);
        for (place, keys) in held {
            // Given back meanwhile, it would be taken again until its lease ended.
            if !store.places.held().contains_key(&place) {
                continue;
            }
            if !hold(&store, place, (&keys, lease)).await {
                break;
            }
            if !store.places.held().contains_key(&place) {
                let _ = hold(&store, place, (&keys, 0)).await;
            }
        }
    }
}

async fn hold(store: &Inner, place: u128, (keys, lease_ms): (&[String], u64)) -> bool {
    let mut call = store.hold.prepare_invoke();
    for key in keys.iter() {
        call.key(key);
    }
    call.arg(name_of(place)).arg(lease_ms);
    store.run::<u8>(&call).await.is_ok()
}
