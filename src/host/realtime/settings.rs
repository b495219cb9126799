//! What a person chooses about sockets to the engine.

use std::num::{NonZeroU8, NonZeroU32, NonZeroU64};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Sockets that the engine answers: `/realtime`, `/ws`, and legacy gateway hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeSettings {
    /// Largest message of a page, in bytes, over all of its frames. A larger one ends the socket with 1009.
    pub message_bytes: NonZeroU32,
    /// From the first byte of a message to its last, in seconds. A message that takes longer ends the socket with 1008.
    pub message_s: NonZeroU64,
    /// Frames of which one message may consist.
    pub fragments: NonZeroU32,
    /// Frames of any kind that a page may send each second. A page that sends more is cut off with 1008.
    pub frames_per_s: NonZeroU32,
    /// Frames that a rested page may send at once.
    pub frames_burst: NonZeroU32,
    /// Bytes that a page may send each second.
    pub bytes_per_s: NonZeroU64,
    /// Bytes that a rested page may send at once.
    pub bytes_burst: NonZeroU64,
    /// Most inputs that may wait at one socket, whatever its page wishes with `max_buffering`. Without a wish it is one:
    /// a newer input takes the place of the one that waits.
    pub most_waiting: NonZeroU8,
    /// How long an input may wait for room in the engine's queue, in milliseconds. Newer inputs push it out meanwhile.
    pub room_wait_ms: NonZeroU64,
    /// Largest result, in bytes. A larger one is answered with an error.
    pub result_bytes: NonZeroU32,
    /// A socket without an input for so long is closed, in seconds. Pages come back with their next input.
    pub idle_s: NonZeroU64,
    /// A socket that was silent for so long is asked whether it lives, in seconds; it has as long to answer.
    pub ping_s: NonZeroU64,
    /// Longest life of a socket, in seconds. Each lives up to a tenth less, so that they do not end all at once.
    pub life_s: NonZeroU64,
    /// After so long without a frame a socket gives back its buffers, in milliseconds.
    pub park_ms: NonZeroU64,
    /// Time for the work in hand when a socket is to end: the gate drains, or the socket is old. In milliseconds.
    pub finish_ms: u64,
    /// Over how long a drain ends sockets, each at a time by lot, so that their pages do not come back all at once; in
    /// milliseconds.
    pub drain_spread_ms: u64,
    /// How sockets are told that the gate drains: `quiet` is the end of an idle socket, after which pages come back
    /// without a word; `going_away` is the close code 1001, which pages show.
    pub farewell: Farewell,
    /// A picture that differs from the one before by less is not rendered again, 0 to 1 of the whole range of brightness;
    /// 0 renders all. A page may choose for itself with `falgate_similar` in the URL.
    pub similar: f32,
}

/// How sockets are told that the gate drains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Farewell {
    /// `TIMEOUT` and 1000.
    #[default]
    Quiet,
    /// 1001.
    GoingAway,
}

const fn few(value: u8) -> NonZeroU8 {
    NonZeroU8::new(value).expect("defaults are not zero")
}

const fn count(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("defaults are not zero")
}

const fn number(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).expect("defaults are not zero")
}

impl Default for RealtimeSettings {
    fn default() -> Self {
        Self {
            message_bytes: count(4 * 1024 * 1024),
            message_s: number(30),
            fragments: count(1024),
            frames_per_s: count(250),
            frames_burst: count(1500),
            bytes_per_s: number(16 * 1024 * 1024),
            bytes_burst: number(32 * 1024 * 1024),
            most_waiting: few(60),
            room_wait_ms: number(2000),
            result_bytes: count(32 * 1024 * 1024),
            idle_s: number(60),
            ping_s: number(20),
            life_s: number(3600),
            park_ms: number(1000),
            finish_ms: 2000,
            drain_spread_ms: 2000,
            farewell: Farewell::Quiet,
            similar: 0.0,
        }
    }
}

/// Longer times than this are no times; sums of them must not overflow.
const TEN_YEARS_S: u64 = 10 * 365 * 24 * 3600;

impl RealtimeSettings {
    /// What is wrong with the values, each with its key inside this table.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.to_owned(), what));
        if self.bytes_burst.get() < u64::from(self.message_bytes.get()) + 1024 {
            let what = format!("{} is less than one message may have, {}", self.bytes_burst, self.message_bytes);
            fault("bytes_burst", what);
        }
        if self.frames_burst < self.fragments {
            let what = format!("{} is less than one message may have, {}", self.frames_burst, self.fragments);
            fault("frames_burst", what);
        }
        if self.idle_s.get() < 30 {
            fault(
                "idle_s",
                format!("{} is less than 30, after which a hand that rests is taken for gone", self.idle_s),
            );
        }
        if self.most_waiting.get() > 60 {
            fault("most_waiting", format!("{} is more than 60, the most that clients can wish for", self.most_waiting));
        }
        if !(0.0..=1.0).contains(&self.similar) {
            fault("similar", format!("{} is not between 0 and 1", self.similar));
        }
        let times =
            [("message_s", self.message_s), ("idle_s", self.idle_s), ("ping_s", self.ping_s), ("life_s", self.life_s)];
        for (key, value) in times {
            if value.get() > TEN_YEARS_S {
                fault(key, format!("{value} is more than {TEN_YEARS_S}"));
            }
        }
        for (key, value) in [
            ("room_wait_ms", self.room_wait_ms.get()),
            ("park_ms", self.park_ms.get()),
            ("finish_ms", self.finish_ms),
            ("drain_spread_ms", self.drain_spread_ms),
        ] {
            if value > TEN_YEARS_S {
                fault(key, format!("{value} is more than {TEN_YEARS_S}"));
            }
        }
        faults
    }

    pub(super) const fn message(&self) -> Duration {
        Duration::from_secs(self.message_s.get())
    }

    pub(super) const fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s.get())
    }

    pub(super) const fn ping(&self) -> Duration {
        Duration::from_secs(self.ping_s.get())
    }

    pub(super) const fn park(&self) -> Duration {
        Duration::from_millis(self.park_ms.get())
    }

    pub(super) const fn finish(&self) -> Duration {
        Duration::from_millis(self.finish_ms)
    }

    /// When in a drain a socket ends, at `part` of the whole, `0..1`.
    pub(super) fn drain_after(&self, part: f64) -> Duration {
        Duration::from_millis(self.drain_spread_ms).mul_f64(part.clamp(0.0, 1.0))
    }

    pub(super) const fn room_wait(&self) -> Duration {
        Duration::from_millis(self.room_wait_ms.get())
    }

    /// A life, shortened by `part` of a tenth, `0..1`.
    pub(super) fn life(&self, part: f64) -> Duration {
        Duration::from_secs(self.life_s.get()).mul_f64(1.0 - 0.1 * part.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(RealtimeSettings::default().faults(), []);
    }

    #[test]
    fn every_value_that_cannot_work_is_named() {
        let settings = RealtimeSettings {
            bytes_burst: number(1000),
            frames_burst: count(3),
            idle_s: number(5),
            most_waiting: few(61),
            similar: f32::NAN,
            life_s: number(u64::MAX),
            finish_ms: u64::MAX,
            ..RealtimeSettings::default()
        };
        let keys: Vec<String> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["bytes_burst", "frames_burst", "idle_s", "most_waiting", "similar", "life_s", "finish_ms"]);
    }

    #[test]
    fn lives_end_one_after_another() {
        let settings = RealtimeSettings::default();
        assert_eq!(settings.life(0.0), Duration::from_secs(3600));
        assert_eq!(settings.life(1.0), Duration::from_secs(3240));
    }
}
