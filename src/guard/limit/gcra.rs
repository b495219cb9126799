//! One decision of the generic cell rate algorithm, by `governor`, on a state that somebody else keeps.
//!
//! The state of a key is its theoretical arrival time (TAT), nanoseconds on the limits' own clock. A key whose TAT lies in
//! the past is as good as one that was never seen.

use std::cell::Cell;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

/// How fast cells come back, and how many a rested key may spend at once.
///
/// In any time of length `w` a key spends at most `burst + w / refill` cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds until one cell is back.
    pub refill: NonZeroU64,
    /// Cells of a rested key.
    pub burst: NonZeroU32,
}

/// What may be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Enough cells are there; this is the TAT once they are taken.
    Pass {
        /// Nanoseconds on the limits' clock.
        tat: u64,
    },
    /// Enough cells will be there then, if nobody takes any meanwhile.
    Wait {
        /// Nanoseconds on the limits' clock.
        until: u64,
    },
    /// More cells than there ever are.
    Never,
}

impl Pace {
    /// `amount` cells in every `window`, of which a rested key may spend `burst` at once. Rounded so that never more pass.
    ///
    /// `None` where the numbers cannot be counted: more than `u32::MAX` cells in a burst, no time at all, or a burst that
    /// takes longer than a century to come back.
    #[must_use]
    pub fn new(amount: u64, window: Duration, burst: u64) -> Option<Self> {
        const CENTURY: u128 = 100 * 366 * 86_400 * 1_000_000_000;
        let refill = window.as_nanos().checked_add(u128::from(amount).checked_sub(1)?)? / u128::from(amount);
        if refill * u128::from(burst) > CENTURY {
            return None;
        }
        let refill = NonZeroU64::new(u64::try_from(refill).ok()?)?;
        Some(Self { refill, burst: NonZeroU32::new(u32::try_from(burst).ok()?)? })
    }

    /// Decides on taking `cells` at `now` from a key with this TAT.
    #[must_use]
    pub fn decide(self, tat: u64, now: u64, cells: NonZeroU32) -> Verdict {
        let quota = Quota::with_period(Duration::from_nanos(self.refill.get()));
        let quota = quota.expect("a refill time is not zero").allow_burst(self.burst);
        let slot = Slot(Cell::new(tat));
        let limiter: RateLimiter<NotKeyed, &Slot, Readings, NoOpMiddleware<Nanos>> =
            RateLimiter::new(quota, &slot, Readings::new(now));
        match limiter.check_n(cells) {
            Ok(Ok(())) => Verdict::Pass { tat: slot.0.get() },
            Ok(Err(not_until)) => Verdict::Wait { until: not_until.earliest_possible().as_u64() },
            Err(_) => Verdict::Never,
        }
    }

    /// Whole cells that could be spent at once at `now`.
    #[must_use]
    pub fn left(self, tat: u64, now: u64) -> u64 {
        let full = self.refill.get() * u64::from(self.burst.get());
        full.saturating_sub(tat.saturating_sub(now)) / self.refill
    }
}

/// The state of the one key that a decision is about.
struct Slot(Cell<u64>);

impl StateStore for &Slot {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(Some(Nanos::from(self.0.get())))?;
        self.0.set(next.as_u64());
        Ok(outcome)
    }
}

/// A clock that is read twice: by governor for the start, which is the zero of our clock, and for the decision.
struct Readings {
    now: u64,
    started: Cell<bool>,
}

impl Readings {
    const fn new(now: u64) -> Self {
        Self { now, started: Cell::new(false) }
    }
}

impl Clock for Readings {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(if self.started.replace(true) { self.now } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: u64 = 1_000_000_000;

    fn pace(amount: u64, seconds: u64, burst: u64) -> Pace {
        Pace::new(amount, Duration::from_secs(seconds), burst).unwrap()
    }

    fn cells(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[test]
    fn a_rested_key_has_its_burst_and_then_the_pace() {
        let pace = pace(2, 1, 3);
        let Verdict::Pass { tat } = pace.decide(0, 10 * S, cells(3)) else { panic!("three are there") };
        assert_eq!(tat, 10 * S + 3 * S / 2);
        assert_eq!(pace.left(tat, 10 * S), 0);
        assert_eq!(pace.decide(tat, 10 * S, cells(1)), Verdict::Wait { until: 10 * S + S / 2 });
        assert!(matches!(pace.decide(tat, 10 * S + S / 2, cells(1)), Verdict::Pass { .. }));
        assert_eq!(pace.decide(0, 10 * S, cells(4)), Verdict::Never);
        assert_eq!(pace.left(tat, 12 * S), 3);
    }

    #[test]
    fn a_pace_that_does_not_divide_is_rounded_to_fewer() {
        assert_eq!(pace(3, 1, 1).refill.get(), 333_333_334);
        assert!(Pace::new(0, Duration::from_secs(1), 1).is_none());
        assert!(Pace::new(1, Duration::ZERO, 1).is_none());
        assert!(Pace::new(1, Duration::from_secs(1), 1 << 33).is_none());
        assert!(Pace::new(1, Duration::from_secs(86_400 * 366 * 99), 2).is_none());
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_window(
            amount in 1_u64..50,
            seconds in 1_u64..20,
            burst in 1_u64..30,
            calls in prop::collection::vec((0_u64..3 * S, 1_u32..5), 1..80),
        ) {
            let pace = pace(amount, seconds, burst);
            let (mut now, mut tat, mut passed) = (0, 0, Vec::new());
            for (pause, count) in calls {
                now += pause;
                if let Verdict::Pass { tat: next } = pace.decide(tat, now, cells(count)) {
                    tat = next;
                    passed.push((now, u64::from(count)));
                }
            }
            for (at, &(from, _)) in passed.iter().enumerate() {
                let mut sum = 0;
                for &(to, count) in &passed[at..] {
                    sum += count;
                    prop_assert!(sum <= burst + (to - from) / pace.refill);
                }
            }
        }

        #[test]
        fn whoever_waits_as_told_passes(tat in 0_u64..100 * S, now in 0_u64..100 * S, count in 1_u32..10) {
            let pace = pace(3, 2, 10);
            if let Verdict::Wait { until } = pace.decide(tat, now, cells(count)) {
                prop_assert!(until > now);
                prop_assert!(matches!(pace.decide(tat, until, cells(count)), Verdict::Pass { .. }), "at the time");
                prop_assert!(matches!(pace.decide(tat, until - 1, cells(count)), Verdict::Wait { .. }), "not before");
            }
        }
    }
}
