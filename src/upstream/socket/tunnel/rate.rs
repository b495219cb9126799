//! How fast a client may send (generic cell rate algorithm).

use std::time::Duration;

use tokio::time::Instant;

/// A rate with a burst. It keeps one instant: when all that was taken would have been earned.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    per_second: u64,
    burst: Duration,
    earned_at: Instant,
}

impl Rate {
    pub(super) fn new(per_second: u64, burst: u64) -> Self {
        Self { per_second, burst: cost(burst, per_second), earned_at: Instant::now() }
    }

    /// Takes `units` that came at `now`.
    pub(super) fn take(&mut self, units: u64, now: Instant) {
        self.earned_at = self.earned_at.max(now) + cost(units, self.per_second);
    }

    /// Until when nothing more may be taken, if so.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        let opens = self.earned_at.checked_sub(self.burst)?;
        (opens > now).then_some(opens)
    }
}

/// What a sender may send.
#[derive(Debug)]
pub(super) struct Rates {
    pub(super) frames: Rate,
    pub(super) bytes: Rate,
}

impl Rates {
    /// Until when the sender is not read.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.frames.closed_until(now).max(self.bytes.closed_until(now))
    }
}

fn cost(units: u64, per_second: u64) -> Duration {
    let nanos = u128::from(units) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let mut rate = Rate::new(10, 20);
        let start = Instant::now();
        rate.take(20, start);
        assert_eq!(rate.closed_until(start), None);
        rate.take(5, start);
        assert_eq!(rate.closed_until(start), Some(start + Duration::from_millis(500)));
        let later = start + Duration::from_millis(600);
        assert_eq!(rate.closed_until(later), None);
        let rested = start + Duration::from_secs(3600);
        rate.take(20, rested);
        assert_eq!(rate.closed_until(rested), None, "rest earns one burst and no more");
        rate.take(1, rested);
        assert!(rate.closed_until(rested).is_some());
    }
}
