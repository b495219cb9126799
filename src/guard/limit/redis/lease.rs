//! Cells that a gate has taken from the store ahead of its calls, so that most of them need no round trip.
//!
//! Every cell is charged in the store before it is spent here, and is spent once or lapses. So a share never spends more
//! than it was charged; what is charged at one moment may be spent up to `keep_ms` later.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::guard::limit::store_settings::LeaseSettings;

/// The leases of this gate, by the store's keys.
#[derive(Debug)]
pub(super) struct Leases {
    /// Calls that a lease is asked for; 0 asks for none.
    calls: u32,
    keep: Duration,
    most_keys: usize,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    leases: HashMap<String, Lease>,
    /// When it was last looked for what is over.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Lease {
    cells: u64,
    until: Instant,
    stands: Stands,
}

/// How a share stood when its lease was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stands {
    /// Its arrival time with the lease, in nanoseconds of the server's clock.
    pub(super) tat: u64,
    /// The server's time then, in nanoseconds.
    pub(super) server_now: u64,
    /// When the server was asked: a lease is over sooner rather than later.
    pub(super) asked: Instant,
}

/// What a call takes from one share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) key: &'a str,
    pub(super) cells: u64,
    /// Nanoseconds of one cell.
    pub(super) refill: u64,
}

/// How a share stands after a call was paid from its lease, in nanoseconds of the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paid {
    /// Its arrival time without what is leased and not spent.
    pub(super) tat: u64,
    /// About what time the server has.
    pub(super) now: u64,
}

impl Leases {
    pub(super) fn new(settings: &LeaseSettings) -> Self {
        Self {
            calls: settings.calls,
            keep: Duration::from_millis(settings.keep_ms.get()),
            most_keys: settings.keys.get() as usize,
            book: Mutex::default(),
        }
    }

    /// Whether there are any.
    pub(super) const fn are_on(&self) -> bool {
        self.calls > 0
    }

    /// Pays a call from the leases of all of its shares, or from none: then `None`.
    pub(super) fn pay(&self, wishes: &[Wish<'_>], now: Instant) -> Option<Vec<Paid>> {
        let mut book = self.book();
        let has = |wish: &Wish<'_>| {
            let lease = book.leases.get(wish.key).filter(|lease| now < lease.until);
            lease.is_some_and(|lease| lease.cells >= wish.cells)
        };
        if !wishes.iter().all(has) {
            return None;
        }
        let take = |wish: &Wish<'_>| {
            let lease = book.leases.get_mut(wish.key)?;
            lease.cells -= wish.cells;
            let since = u64::try_from(now.saturating_duration_since(lease.stands.asked).as_nanos()).unwrap_or(u64::MAX);
            let paid = Paid {
                tat: lease.stands.tat.saturating_sub(lease.cells.saturating_mul(wish.refill)),
                now: lease.stands.server_now.saturating_add(since),
            };
            if lease.cells == 0 {
                book.leases.remove(wish.key);
            }
            Some(paid)
        };
        wishes.iter().map(take).collect()
    }

    /// For how many calls a lease is to be asked for with this one: none where the share has one, or where it was asked for
    /// and the answer is still to come.
    pub(super) fn ask(&self, key: &str, now: Instant) -> u32 {
        if !self.are_on() {
            return 0;
        }
        let mut book = self.book();
        if book.leases.len() >= self.most_keys && !book.leases.contains_key(key) {
            // Looked through at most twice in the life of a lease, whoever comes.
            if book.swept.is_none_or(|last| now.saturating_duration_since(last) > self.keep / 2) {
                book.swept = Some(now);
                book.leases.retain(|_, lease| now < lease.until);
            }
            if book.leases.len() >= self.most_keys {
                return 0;
            }
        }
        let asked_for =
            Lease { cells: 0, until: now + self.keep, stands: Stands { tat: 0, server_now: 0, asked: now } };
        match book.leases.entry(key.to_owned()) {
            Entry::Occupied(known) if now < known.get().until => return 0,
            Entry::Occupied(mut over) => drop(over.insert(asked_for)),
            Entry::Vacant(free) => drop(free.insert(asked_for)),
        }
        self.calls
    }

    /// Keeps a lease that was asked for. One that was forgotten meanwhile lapses.
    pub(super) fn keep(&self, key: &str, cells: u64, stands: Stands) {
        let mut book = self.book();
        if cells == 0 {
            book.leases.remove(key);
        } else if let Some(lease) = book.leases.get_mut(key) {
            *lease = Lease { cells, until: stands.asked + self.keep, stands };
        }
    }

    /// Lets leases lapse: their shares stand as only the store says.
    pub(super) fn forget<'a>(&self, keys: impl Iterator<Item = &'a String>) {
        let mut book = self.book();
        for key in keys {
            book.leases.remove(key);
        }
    }

    /// Lets all leases lapse.
    pub(super) fn forget_all(&self) {
        self.book().leases.clear();
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn leases(keys: u32) -> Leases {
        let settings = serde_json::json!({"calls": 5, "keep_ms": 1000, "keys": keys});
        Leases::new(&serde_json::from_value(settings).unwrap())
    }

    fn stands(asked: Instant) -> Stands {
        Stands { tat: 1_000, server_now: 100, asked }
    }

    fn wish(key: &str, cells: u64) -> Wish<'_> {
        Wish { key, cells, refill: 10 }
    }

    #[test]
    fn a_lease_is_asked_for_once_and_spent_to_the_last_cell() {
        let (leases, now) = (leases(9), Instant::now());
        assert_eq!((leases.ask("a", now), leases.ask("a", now)), (5, 0), "the answer is on its way");
        assert_eq!(leases.pay(&[wish("a", 1)], now), None);
        leases.keep("a", 3, stands(now));
        let later = now + 7 * MS;
        let paid = leases.pay(&[wish("a", 2)], later).unwrap();
        assert_eq!(paid, [Paid { tat: 990, now: 100 + 7_000_000 }], "one cell is leased and not spent");
        assert_eq!(leases.pay(&[wish("a", 2)], later), None, "there is one");
        assert_eq!(leases.ask("a", later), 0);
        assert!(leases.pay(&[wish("a", 1)], later).is_some());
        assert_eq!(leases.ask("a", later), 5, "used up");
        leases.keep("a", 0, stands(later));
        assert_eq!(leases.ask("a", later), 5, "the store gave none");
    }

    #[test]
    fn a_call_takes_from_all_of_its_leases_or_from_none() {
        let (leases, now) = (leases(9), Instant::now());
        for key in ["a", "b"] {
            leases.ask(key, now);
            leases.keep(key, 2, stands(now));
        }
        assert_eq!(leases.pay(&[wish("a", 1), wish("b", 3)], now), None);
        assert_eq!(leases.pay(&[wish("a", 1), wish("c", 1)], now), None);
        assert!(leases.pay(&[wish("a", 2), wish("b", 2)], now).is_some(), "nothing was taken before");
    }

    #[test]
    fn a_lease_lapses_with_its_time_and_when_it_is_forgotten() {
        let (leases, now) = (leases(9), Instant::now());
        leases.ask("a", now);
        // The time counts from before the question.
        leases.keep("a", 2, stands(now));
        assert_eq!(leases.pay(&[wish("a", 1)], now + 1000 * MS), None);
        assert_eq!(leases.ask("a", now + 1000 * MS), 5);
        leases.forget([&"a".to_owned()].into_iter());
        leases.keep("a", 2, stands(now + 1000 * MS));
        assert_eq!(leases.pay(&[wish("a", 1)], now + 1001 * MS), None, "an answer that comes too late lapses");
        leases.ask("a", now);
        leases.keep("a", 2, stands(now));
        leases.forget_all();
        assert_eq!(leases.pay(&[wish("a", 1)], now), None);
    }

    #[test]
    fn there_are_never_more_keys_than_the_settings_say() {
        let (leases, now) = (leases(2), Instant::now());
        assert_eq!(["a", "b", "c"].map(|key| leases.ask(key, now)), [5, 5, 0]);
        assert_eq!(leases.ask("c", now + 600 * MS), 0, "nobody's lease is taken away");
        assert_eq!(leases.ask("c", now + 1200 * MS), 5, "those that are over make room");
        assert_eq!(leases.book().leases.len(), 1);
    }

    proptest! {
        #[test]
        fn no_cell_is_spent_that_was_not_given_and_none_twice(
            steps in prop::collection::vec((0_usize..3, 0_u64..4, 0_u64..700, any::<bool>()), 1..80),
        ) {
            let (leases, mut now) = (leases(2), Instant::now());
            let keys = ["a", "b", "c"];
            let (mut given, mut spent) = ([0_u64; 3], [0_u64; 3]);
            for (at, cells, pause, pays) in steps {
                now += MS * u32::try_from(pause).unwrap();
                if pays {
                    let other = (at + 1) % 3;
                    let wishes = [wish(keys[at], cells), wish(keys[other], 1)];
                    if leases.pay(&wishes, now).is_some() {
                        spent[at] += cells;
                        spent[other] += 1;
                    }
                } else if leases.ask(keys[at], now) > 0 {
                    leases.keep(keys[at], cells, stands(now));
                    given[at] += cells;
                }
                prop_assert!(spent.iter().zip(given).all(|(spent, given)| *spent <= given));
                prop_assert!(leases.book().leases.len() <= 2);
            }
        }
    }
}
