//! Who calls most, in memory that does not grow: the space-saving sketch of Metwally, Agrawal and El Abbadi (2005), anew
//! with each hour.
//!
//! Whoever made more than one in [`TRACKED`] of an hour's calls is in it, however many others called. A newcomer takes the
//! place of the least, with its count, so a count may be too high by what is said beside it, and is never too low.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use super::subject::Share;

/// Callers that are counted at once.
pub(super) const TRACKED: usize = 128;
const HOUR: u64 = 3600;

/// The callers of this hour and of the one before.
#[derive(Debug, Default)]
pub(super) struct Top {
    hasher: RandomState,
    hours: Mutex<[Hour; 2]>,
}

/// One hour's callers, in no order. The lists are side by side, so that looking for one reads a single kilobyte.
#[derive(Debug, Default)]
struct Hour {
    /// Its begin, in hours since 1970.
    begin: u64,
    keys: Vec<u64>,
    counts: Vec<u64>,
    callers: Vec<Tracked>,
    /// No count is less, and none before `from` is as little: counts only grow.
    least: u64,
    from: usize,
}

#[derive(Debug)]
struct Tracked {
    whose: Whose,
    refused: u64,
    overstated: u64,
}

#[derive(Debug)]
enum Whose {
    Address(u128),
    Caller(Box<str>),
}

/// What one caller did in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counted {
    /// As [`Share`] shows it.
    pub(super) share: String,
    /// Calls and frames; at most `overstated` too many.
    pub(super) calls: u64,
    pub(super) refused: u64,
    pub(super) overstated: u64,
}

impl Top {
    /// Notes a call of a caller or an address at a moment in seconds since 1970.
    pub(super) fn note(&self, share: Share<'_>, unix: u64, passed: bool) {
        let key = self.hasher.hash_one(share);
        let mut hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = unix / HOUR;
        if hours[0].begin != begin {
            hours.swap(0, 1);
            hours[0] = Hour { begin, ..Hour::default() };
        }
        hours[0].note(key, share, passed);
    }

    /// The callers of this hour and of the last one, those first who called most.
    pub(super) fn most(&self, unix: u64) -> [Vec<Counted>; 2] {
        let hours = self.hours.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |begin: u64| hours.iter().find(|hour| hour.begin == begin).map_or_else(Vec::new, Hour::most);
        let before = (unix / HOUR).checked_sub(1);
        [of(unix / HOUR), before.map_or_else(Vec::new, of)]
    }
}

impl Hour {
    fn note(&mut self, key: u64, share: Share<'_>, passed: bool) {
        let at = match position(&self.keys, key) {
            Some(at) => at,
            None => self.take_in(key, share),
        };
        self.counts[at] += 1;
        self.callers[at].refused += u64::from(!passed);
    }

    /// Begins to count a caller, in the place of the least where there is no other.
    fn take_in(&mut self, key: u64, share: Share<'_>) -> usize {
        let whose = match share {
            Share::Address(bits) | Share::Site(bits) => Whose::Address(bits),
            Share::Caller(name) | Share::Tier(name) | Share::Endpoint(name) => Whose::Caller(name.into()),
            Share::All => Whose::Caller("".into()),
        };
        if self.keys.len() < TRACKED {
            self.keys.push(key);
            self.counts.push(0);
            self.callers.push(Tracked { whose, refused: 0, overstated: 0 });
            return self.keys.len() - 1;
        }
        let least = self.least();
        self.keys[least] = key;
        self.callers[least] = Tracked { whose, refused: 0, overstated: self.counts[least] };
        least
    }

    /// One of those who called least. In a flood of newcomers the next is right behind.
    fn least(&mut self) -> usize {
        if position(&self.counts[self.from..], self.least).is_none() {
            self.least = self.counts.iter().copied().min().unwrap_or_default();
            self.from = 0;
        }
        self.from += position(&self.counts[self.from..], self.least).unwrap_or_default();
        self.from
    }

    fn most(&self) -> Vec<Counted> {
        let counted = self.callers.iter().zip(&self.counts).map(|(caller, calls)| Counted {
            share: match &caller.whose {
                Whose::Address(bits) => Share::Address(*bits).to_string(),
                Whose::Caller(name) => Share::Caller(name).to_string(),
            },
            calls: *calls,
            refused: caller.refused,
            overstated: caller.overstated,
        });
        let mut counted: Vec<_> = counted.collect();
        counted.sort_by(|one, other| other.calls.cmp(&one.calls).then_with(|| one.share.cmp(&other.share)));
        counted
    }
}

/// Where a number stands. Looks at a cache line at once, which a search that could end at each number does not.
fn position(numbers: &[u64], wanted: u64) -> Option<usize> {
    const LINE: usize = 8;
    let holds = |line: &[u64]| line.iter().fold(false, |found, number| found | (*number == wanted));
    let at = numbers.chunks(LINE).position(holds)? * LINE;
    Some(at + numbers[at..].iter().position(|number| *number == wanted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_most_is_seen_through_a_flood_of_others() {
        let top = Top::default();
        for at in 0..20_000_u128 {
            top.note(Share::Address(at), 10, true);
            if at % 20 == 0 {
                top.note(Share::Caller("ann"), 10, at % 40 == 0);
            }
        }
        let [now, before] = top.most(10);
        assert_eq!((now.len(), before.len()), (TRACKED, 0));
        let ann = now.iter().find(|counted| counted.share == "caller:ann").expect("one call in twenty is hers");
        assert!(ann.calls >= 1000 && ann.calls - ann.overstated <= 1000, "{ann:?}");
        assert!(ann.refused <= 500);
    }

    #[test]
    fn each_hour_begins_anew_and_the_last_one_is_kept() {
        let top = Top::default();
        top.note(Share::Caller("ann"), HOUR - 1, true);
        top.note(Share::Caller("bob"), HOUR, false);
        let [now, before] = top.most(HOUR);
        let bob = Counted { share: "caller:bob".to_owned(), calls: 1, refused: 1, overstated: 0 };
        assert_eq!((now, before.len(), before[0].share.as_str()), (vec![bob], 1, "caller:ann"));
        assert!(top.most(9 * HOUR).iter().all(Vec::is_empty), "nobody called for hours");
    }
}
