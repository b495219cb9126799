//! When a budget starts anew.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, Time};

use super::settings::Period;

/// The period that a moment lies in: seconds since 1970, UTC, its end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Period {
    /// The period around `now`. A clock before 1970 reads as 1970.
    pub(super) fn around(self, now: SystemTime) -> Window {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        match self {
            Self::Hour => whole(seconds, 3600),
            Self::Day => whole(seconds, 86_400),
            Self::Month => month(seconds),
        }
    }
}

const fn whole(seconds: u64, length: u64) -> Window {
    let start = seconds - seconds % length;
    Window { start, end: start + length }
}

fn month(seconds: u64) -> Window {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let Some(moment) = moment else { return whole(seconds, 30 * 86_400) };
    let midnight = moment.replace_time(Time::MIDNIGHT);
    let first = midnight - time::Duration::days(i64::from(moment.day()) - 1);
    let next = first + time::Duration::days(i64::from(moment.month().length(moment.year())));
    let unix = |moment: OffsetDateTime| u64::try_from(moment.unix_timestamp()).unwrap_or(0);
    Window { start: unix(first), end: unix(next) }
}

impl Window {
    /// How long until it ends.
    pub(super) fn left(self, now: SystemTime) -> Duration {
        (UNIX_EPOCH + Duration::from_secs(self.end)).duration_since(now).unwrap_or(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(period: Period, seconds: u64) -> (u64, u64) {
        let window = period.around(UNIX_EPOCH + Duration::from_secs(seconds));
        (window.start, window.end)
    }

    #[test]
    fn periods_are_those_of_the_calendar() {
        // 2024-02-29T23:59:59Z: the last second of a leap February.
        let moment = 1_709_251_199;
        assert_eq!(around(Period::Hour, moment), (1_709_247_600, 1_709_251_200));
        assert_eq!(around(Period::Day, moment), (1_709_164_800, 1_709_251_200));
        assert_eq!(around(Period::Month, moment), (1_706_745_600, 1_709_251_200));
        assert_eq!(around(Period::Month, moment + 1), (1_709_251_200, 1_711_929_600));
        // 2025-12-31 and 2026-01-01.
        assert_eq!(around(Period::Month, 1_767_225_599), (1_764_547_200, 1_767_225_600));
        let moment = UNIX_EPOCH + Duration::from_millis(1_709_251_199_500);
        assert_eq!(Period::Day.around(moment).left(moment), Duration::from_millis(500));
    }
}
