//! What is remembered of limited keys: one arrival time each, in a table that never grows past its ceiling.
//!
//! A key may stand in one of two buckets of eight places. A place is free when its arrival time has passed, because such a
//! key is as good as new: that is the only way in which a key is ever forgotten, so an exhausted one is never let off
//! early. Where both buckets are full of keys that are not yet rested, a new key is refused until one of them is: the table
//! fails closed, and only for newcomers.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gcra::{Pace, Verdict};

const WAYS: usize = 8;
const SHARDS: usize = 64;
/// Most keys that one call is charged to.
pub(super) const MOST_ENTRIES: usize = 16;

/// A key, reduced to a hash that nobody outside can aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// The key of `share` among those of this kind. Both are hashes that nobody outside can aim at, and so is what they make:
    /// two pairs meet in it as rarely as two hashes do.
    pub(super) fn of(self, share: Self) -> Self {
        Self([mix(self.0[0] ^ share.0[0]), mix(self.0[1] ^ share.0[1])])
    }
}

/// The end of SplitMix64 (Steele, Lea and Flood, 2014), which takes no two numbers to one.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A key and its arrival time. Plain numbers, because of those alone the standard library takes zeroed memory from the
/// system as it is, without touching it.
type Place = [u64; 3];
/// Where the arrival time is.
const TAT: usize = 2;

#[derive(Debug)]
struct Shard {
    /// Buckets of [`WAYS`] places, side by side.
    places: Box<[Place]>,
}

/// The table. One lock a shard; a charge takes the locks of its keys in order, so it is one step to everybody else.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[Mutex<Shard>]>,
    buckets: u64,
    hashers: [RandomState; 2],
}

/// One key that a call is charged to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: Fingerprint,
    pub(super) pace: Pace,
    /// Cells to take.
    pub(super) cells: NonZeroU32,
    /// Charged where there is room, but never a reason to refuse.
    pub(super) only_counts: bool,
    /// Set by [`Table::charge`].
    pub(super) standing: Standing,
}

/// How a key stands after a decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Its arrival time now.
    pub(super) tat: u64,
    /// When it could pass; 0 if it passes now, `u64::MAX` for never.
    pub(super) until: u64,
    /// The table has no room for the key: `tat` is nobody's, and `until` is when there may be some.
    pub(super) no_room: bool,
}

impl Standing {
    /// Whether this key refuses the call.
    pub(super) const fn refuses(&self) -> bool {
        self.until != 0
    }
}

impl Table {
    /// A table of at most `bytes`.
    pub(super) fn new(bytes: usize) -> Self {
        let bucket_bytes = WAYS * size_of::<Place>();
        let buckets = (bytes / SHARDS / bucket_bytes).max(1);
        // Zeroed memory is not touched until it is used: an idle gate does not pay for the ceiling.
        let shard = || Mutex::new(Shard { places: vec![[0_u64; 3]; buckets * WAYS].into_boxed_slice() });
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            buckets: buckets as u64,
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Keys that fit at most.
    pub(super) fn capacity(&self) -> usize {
        self.shards.len() * usize::try_from(self.buckets).unwrap_or(usize::MAX) * WAYS
    }

    /// The fingerprint of a key, under this process' own random hash.
    pub(super) fn fingerprint(&self, key: impl Hash) -> Fingerprint {
        Fingerprint([self.hashers[0].hash_one(&key), self.hashers[1].hash_one(&key)])
    }

    /// Takes the cells of all entries, or of none if any refuses, and notes how each stands.
    pub(super) fn charge(&self, now: u64, entries: &mut [Entry]) -> Result<(), Refused> {
        self.decide(now, entries, Take::AllOrNone)
    }

    /// Notes how each entry would stand, and takes nothing.
    pub(super) fn look(&self, now: u64, entries: &mut [Entry]) -> Result<(), Refused> {
        self.decide(now, entries, Take::Nothing)
    }

    fn decide(&self, now: u64, entries: &mut [Entry], take: Take) -> Result<(), Refused> {
        assert!(entries.len() <= MOST_ENTRIES, "the number of rules is checked at start");
        let mut locked = self.lock(entries);
        let mut found = [Found::default(); MOST_ENTRIES];
        let mut refused = false;
        for (at, entry) in entries.iter_mut().enumerate() {
            let shard = locked.shard(shard_of(entry.key));
            found[at] = shard.claim(entry.key, now, self.buckets);
            entry.standing = found[at].decide(entry, now);
            refused |= entry.standing.refuses() && !entry.only_counts;
        }
        for (at, entry) in entries.iter_mut().enumerate() {
            let Some(place) = found[at].place else { continue };
            let shard = locked.shard(shard_of(entry.key));
            // What a key that is not charged after all had, which for a new one is nothing: its place is free again.
            if refused || take == Take::Nothing || entry.standing.refuses() {
                entry.standing.tat = found[at].tat;
            }
            shard.places[place][TAT] = entry.standing.tat;
        }
        if refused { Err(Refused) } else { Ok(()) }
    }

    /// Moves a key's arrival time by the difference between an estimate and what it really was, in cells.
    ///
    /// More than was estimated becomes a debt, whatever the burst. A key that has been forgotten meanwhile had rested; it
    /// comes back only for a debt, and if there is no room the debt is lost, which is said by `false`.
    pub(super) fn settle(&self, now: u64, entry: &Entry, estimated: u64, real: u64) -> bool {
        let shard = &self.shards[shard_of(entry.key)];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = entry.pace.refill.get();
        if real <= estimated {
            let back = refill.saturating_mul(estimated - real);
            if let Some(place) = shard.find(entry.key, self.buckets) {
                let tat = &mut shard.places[place][TAT];
                *tat = tat.saturating_sub(back);
            }
            return true;
        }
        // No debt is longer than a century, or the clock's arithmetic would end.
        let debt = refill.saturating_mul(real - estimated).min(1 << 61);
        let Found { place: Some(place), tat } = shard.claim(entry.key, now, self.buckets) else { return false };
        shard.places[place][TAT] = tat.max(now).saturating_add(debt).min(1 << 62);
        true
    }

    /// The arrival time of a key; 0 for one that is not remembered.
    pub(super) fn tat(&self, key: Fingerprint) -> u64 {
        let shard = self.shards[shard_of(key)].lock().unwrap_or_else(PoisonError::into_inner);
        shard.find(key, self.buckets).map_or(0, |place| shard.places[place][TAT])
    }

    /// Forgets a key: it is as good as new. Says whether it was there.
    pub(super) fn reset(&self, key: Fingerprint) -> bool {
        let mut shard = self.shards[shard_of(key)].lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = shard.find(key, self.buckets) else { return false };
        shard.places[place] = [0; 3];
        true
    }

    /// Keys that are not yet rested at `now`. Walks the whole table, shard by shard.
    pub(super) fn live(&self, now: u64) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.places.iter().filter(|place| place[TAT] > now).count()
        };
        self.shards.iter().map(count).sum()
    }

    fn lock(&self, entries: &[Entry]) -> Locked<'_> {
        let mut wanted = 0_u64;
        for entry in entries {
            wanted |= 1 << shard_of(entry.key);
        }
        let mut locked = Locked { which: [0; MOST_ENTRIES], guards: std::array::from_fn(|_| None) };
        let mut count = 0;
        while wanted != 0 {
            let shard = wanted.trailing_zeros() as usize;
            wanted &= wanted - 1;
            locked.which[count] = shard;
            locked.guards[count] = Some(self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner));
            count += 1;
        }
        locked
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    AllOrNone,
    Nothing,
}

/// Some key refused, so nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

const fn shard_of(key: Fingerprint) -> usize {
    key.0[0] as usize % SHARDS
}

/// The shards of one charge, locked in ascending order.
struct Locked<'a> {
    which: [usize; MOST_ENTRIES],
    guards: [Option<MutexGuard<'a, Shard>>; MOST_ENTRIES],
}

impl Locked<'_> {
    fn shard(&mut self, shard: usize) -> &mut Shard {
        let held = self.which.iter().zip(&mut self.guards).find(|(which, guard)| **which == shard && guard.is_some());
        held.and_then(|(_, guard)| guard.as_deref_mut()).expect("every shard of the charge was locked")
    }
}

/// Where a key stands in its shard, if there is room for it, and its arrival time there.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    place: Option<usize>,
    /// Its arrival time; without a place the time at which the first place falls free.
    tat: u64,
}

impl Found {
    fn decide(self, entry: &Entry, now: u64) -> Standing {
        if self.place.is_none() {
            return Standing { tat: 0, until: self.tat.max(now + 1), no_room: true };
        }
        match entry.pace.decide(self.tat, now, entry.cells) {
            Verdict::Pass { tat } => Standing { tat, until: 0, no_room: false },
            Verdict::Wait { until } => Standing { tat: self.tat, until, no_room: false },
            Verdict::Never => Standing { tat: self.tat, until: u64::MAX, no_room: false },
        }
    }
}

impl Shard {
    fn buckets_of(key: Fingerprint, buckets: u64) -> [usize; 2] {
        let (first, second) = (key.0[0] / SHARDS as u64, key.0[1]);
        [first, second].map(|hash| usize::try_from(hash % buckets).expect("a bucket is in memory") * WAYS)
    }

    fn find(&self, key: Fingerprint, buckets: u64) -> Option<usize> {
        let is_here = |place: &Place| (place[0] == key.0[0]) & (place[1] == key.0[1]) & (place[TAT] != 0);
        let find = |start: usize| Some(start + self.places[start..start + WAYS].iter().position(is_here)?);
        let [first, second] = Self::buckets_of(key, buckets);
        find(first).or_else(|| find(second))
    }

    /// Finds a key, or takes a place for it that no live key has.
    ///
    /// Both count as live until the charge is decided and writes what they are then, so that no other key of the same
    /// charge gets the same place.
    fn claim(&mut self, key: Fingerprint, now: u64, buckets: u64) -> Found {
        if let Some(place) = self.find(key, buckets) {
            let tat = self.places[place][TAT];
            self.places[place][TAT] = tat.max(now + 1);
            return Found { place: Some(place), tat };
        }
        let starts = Self::buckets_of(key, buckets);
        let free = |start: &usize| self.places[*start..*start + WAYS].iter().filter(|place| place[TAT] <= now).count();
        let emptier = if free(&starts[1]) > free(&starts[0]) { starts[1] } else { starts[0] };
        match self.places[emptier..emptier + WAYS].iter().position(|place| place[TAT] <= now) {
            Some(place) => {
                let place = emptier + place;
                self.places[place] = [key.0[0], key.0[1], now + 1];
                Found { place: Some(place), tat: 0 }
            }
            None => {
                let soonest = starts.into_iter().flat_map(|start| start..start + WAYS);
                let soonest = soonest.map(|place| self.places[place][TAT]).min();
                Found { place: None, tat: soonest.unwrap_or_default() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn entry(table: &Table, key: u64, burst: u64) -> Entry {
        let (pace, key) = (Pace::new(1, Duration::from_secs(1), burst).unwrap(), table.fingerprint(key));
        Entry { key, pace, cells: NonZeroU32::MIN, only_counts: false, standing: Standing::default() }
    }

    #[test]
    fn a_refusal_by_the_third_rule_does_not_eat_the_first_two() {
        let table = Table::new(1 << 20);
        let mut entries = [entry(&table, 1, 5), entry(&table, 2, 5), entry(&table, 3, 1)];
        table.charge(S, &mut entries).unwrap();
        for _ in 0..3 {
            assert_eq!(table.charge(S, &mut entries), Err(Refused));
        }
        let left: Vec<_> = entries.iter().map(|entry| entry.pace.left(entry.standing.tat, S)).collect();
        assert_eq!(left, [4, 4, 0]);
        assert_eq!((entries[0].standing.until, entries[2].standing.until), (0, 2 * S));
    }

    #[test]
    fn a_rule_that_only_counts_never_refuses() {
        let table = Table::new(1 << 20);
        let mut entries = [entry(&table, 1, 9), Entry { only_counts: true, ..entry(&table, 2, 1) }];
        assert!((0..5).all(|_| table.charge(S, &mut entries).is_ok()));
        assert!(entries[1].standing.refuses());
        assert_eq!(entries[0].pace.left(entries[0].standing.tat, S), 4);
    }

    #[test]
    fn an_estimate_is_settled_both_ways() {
        let table = Table::new(1 << 20);
        let mut entries = [Entry { cells: NonZeroU32::new(3).unwrap(), ..entry(&table, 1, 5) }];
        table.charge(S, &mut entries).unwrap();
        assert!(table.settle(S, &entries[0], 3, 1));
        assert!(table.charge(S, &mut entries).is_ok());
        assert_eq!(table.charge(S, &mut entries), Err(Refused), "1 + 3 of 5 are gone");
        assert!(table.settle(S, &entries[0], 3, 20));
        assert_eq!(table.charge(S, &mut entries), Err(Refused));
        assert_eq!(entries[0].standing.until, S + (4 + 17 + 3 - 5) * S, "a debt is waited for");
        assert!(table.reset(entries[0].key));
        table.charge(S, &mut entries).unwrap();
    }

    #[test]
    fn a_flood_of_new_keys_frees_no_exhausted_one() {
        let table = Table::new(0);
        let mut exhausted = [entry(&table, 0, 1)];
        table.charge(S, &mut exhausted).unwrap();
        let mut refused = 0_usize;
        for key in 1..20_000 {
            refused += usize::from(table.charge(S, &mut [entry(&table, key, 1)]).is_err());
            assert_eq!(table.charge(S, &mut exhausted), Err(Refused));
        }
        assert!(table.live(S) <= table.capacity());
        assert!(refused >= 20_000 - table.capacity(), "whoever had no room was refused");
        // Once rested, places are free again.
        assert!((30_000..30_020).all(|key| table.charge(9 * S, &mut [entry(&table, key, 1)]).is_ok()));
    }

    proptest! {
        #[test]
        fn the_table_decides_as_a_map_without_end_would(
            calls in prop::collection::vec((0_u64..S, prop::collection::hash_set(0_u64..12, 1..4), 1_u32..4), 1..120),
        ) {
            let table = Table::new(1 << 16);
            let mut model: HashMap<u64, u64> = HashMap::new();
            let mut now = 1;
            for (pause, keys, cells) in calls {
                now += pause;
                let keys: Vec<u64> = keys.into_iter().collect();
                let cells = NonZeroU32::new(cells).unwrap();
                let mut entries: Vec<_> =
                    keys.iter().map(|key| Entry { cells, ..entry(&table, *key, 3) }).collect();
                let verdicts: Vec<_> = keys.iter().zip(&entries).map(|(key, entry)| {
                    entry.pace.decide(model.get(key).copied().unwrap_or(0), now, cells)
                }).collect();
                let passes = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Pass { .. }));
                prop_assert_eq!(table.charge(now, &mut entries).is_ok(), passes);
                if passes {
                    for (key, verdict) in keys.iter().zip(verdicts) {
                        let Verdict::Pass { tat } = verdict else { unreachable!() };
                        model.insert(*key, tat);
                    }
                }
            }
        }
    }
}
