//! How fast a socket may send, exactly: one number and no timer.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket kept as the time at which it will be full again (GCRA).
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    per_second: u64,
    burst: u64,
    full_at: Instant,
}

impl Pace {
    /// A full bucket of `burst` that earns `per_second`; neither is zero.
    pub(super) const fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        Self { per_second, burst, full_at: now }
    }

    /// Takes `count` out, or nothing if there is less.
    pub(super) fn take(&mut self, count: u64, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.time_for(count);
        if full_at - now > self.time_for(self.burst) {
            return false;
        }
        self.full_at = full_at;
        true
    }

    /// Rounded up, so that many small takes are never cheaper than a large one.
    fn time_for(&self, count: u64) -> Duration {
        let nanos = (u128::from(count) * 1_000_000_000).div_ceil(u128::from(self.per_second.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rested_socket_has_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(10, 5, start);
        assert_eq!((0..8).filter(|_| pace.take(1, start)).count(), 5);
        let later = start + Duration::from_millis(250);
        assert_eq!((0..8).filter(|_| pace.take(1, later)).count(), 2);
        let rested = start + Duration::from_secs(60);
        assert!(pace.take(5, rested) && !pace.take(1, rested));
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let start = Instant::now();
        let mut pace = Pace::new(1, 10, start);
        assert!(!pace.take(11, start));
        assert!(pace.take(10, start));
    }
}
