//! The pace that a peer must keep.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::{LimitSettings, ms};

/// The pace that a peer must keep while it is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct PaceRule {
    idle: Duration,
    grace: Duration,
    least_bytes_per_s: u64,
}

impl PaceRule {
    pub(super) fn of_bodies(settings: &LimitSettings) -> Self {
        Self::new(ms(settings.body_idle_ms), settings)
    }

    pub(super) fn of_writes(settings: &LimitSettings) -> Self {
        Self::new(ms(settings.write_idle_ms), settings)
    }

    fn new(idle: Duration, settings: &LimitSettings) -> Self {
        Self { idle, grace: ms(settings.pace_grace_ms), least_bytes_per_s: settings.least_bytes_per_s }
    }
}

/// How long a peer was waited for, and what it moved. Only waiting counts: time in which we do not ask is ours.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// The peer makes us wait; gives back when that becomes too long.
    pub(super) fn wait(&mut self, rule: &PaceRule) -> Instant {
        let since = *self.since.get_or_insert_with(Instant::now);
        if rule.least_bytes_per_s == 0 {
            return since + rule.idle;
        }
        let earned = Duration::from_millis(self.bytes.saturating_mul(1000) / rule.least_bytes_per_s);
        let left = (rule.grace.saturating_add(earned)).saturating_sub(self.waited);
        since + rule.idle.min(left)
    }

    /// The peer moved `bytes`.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Whether the peer is being waited for.
    pub(super) const fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Starts anew, with another message.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Alarm;

    const RULE: PaceRule =
        PaceRule { idle: Duration::from_secs(10), grace: Duration::from_secs(20), least_bytes_per_s: 100 };

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_at_the_last_deadline_it_was_given() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let far = start + Duration::from_secs(60);
        let near = start + Duration::from_secs(5);
        std::future::poll_fn(|cx| {
            assert!(alarm.poll(cx, far).is_pending());
            alarm.poll(cx, near)
        })
        .await;
        assert_eq!(start.elapsed().as_secs(), 5);
        std::future::poll_fn(|cx| alarm.poll(cx, far)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbler_runs_out_of_time_though_it_never_falls_silent() {
        let mut pace = Pace::default();
        let mut seconds = 0;
        while pace.wait(&RULE) > Instant::now() {
            tokio::time::advance(Duration::from_secs(5)).await;
            seconds += 5;
            pace.moved(1);
        }
        assert_eq!(seconds, 25);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = Pace::default();
        pace.wait(&RULE);
        pace.moved(10);
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(pace.wait(&RULE), Instant::now() + Duration::from_secs(10));
    }
}
