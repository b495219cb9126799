//! When something is due at a socket, decided over plain values.

use std::time::Duration;

use tokio::time::Instant;

use super::end::End;
use super::meter::Breach;

/// How long a socket may do what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) idle: Duration,
    pub(super) ping: Duration,
    pub(super) park: Duration,
    /// From the first byte of a message to its last.
    pub(super) message: Duration,
    pub(super) old_at: Instant,
}

/// What was seen of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The last input, or the end of the last work.
    pub(super) input_at: Instant,
    /// The last byte.
    pub(super) heard_at: Instant,
    /// The last question whether it lives.
    pub(super) pinged_at: Option<Instant>,
    /// Since when a message is on its way.
    pub(super) message_since: Option<Instant>,
    /// An input waits or is rendered.
    pub(super) is_busy: bool,
    /// Its buffers are given back.
    pub(super) is_parked: bool,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before this time.
    At(Instant),
    /// Ask whether it lives.
    Ping,
    /// Give its buffers back.
    Park,
    /// End it.
    End(End),
}

/// Decides what is due.
pub(super) fn due(times: &Times, seen: &Seen, now: Instant) -> Due {
    if times.old_at <= now {
        return Due::End(End::Old);
    }
    let mut next = times.old_at;
    if let Some(since) = seen.message_since {
        let whole_by = since + times.message;
        if whole_by <= now {
            return Due::End(End::Breach(Breach::Slow));
        }
        next = next.min(whole_by);
    }
    if !seen.is_busy {
        let idle_at = seen.input_at + times.idle;
        if idle_at <= now {
            return Due::End(End::Idle);
        }
        next = next.min(idle_at);
    }
    let asked = seen.pinged_at.filter(|at| *at > seen.heard_at);
    let answer_by = asked.unwrap_or(seen.heard_at) + times.ping;
    if answer_by <= now {
        return if asked.is_some() { Due::End(End::Dead) } else { Due::Ping };
    }
    next = next.min(answer_by);
    if !seen.is_parked && !seen.is_busy {
        let park_at = seen.heard_at + times.park;
        if park_at <= now {
            return Due::Park;
        }
        next = next.min(park_at);
    }
    Due::At(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn socket(now: Instant) -> (Times, Seen) {
        let old_at = now + 3600 * SECOND;
        let times = Times { idle: 60 * SECOND, ping: 20 * SECOND, park: SECOND, message: 30 * SECOND, old_at };
        let (pinged_at, message_since) = (None, None);
        let seen = Seen { input_at: now, heard_at: now, pinged_at, message_since, is_busy: false, is_parked: false };
        (times, seen)
    }

    #[test]
    fn a_quiet_socket_is_parked_then_asked_then_given_up() {
        let now = Instant::now();
        let (times, mut seen) = socket(now);
        assert_eq!(due(&times, &seen, now), Due::At(now + SECOND));
        assert_eq!(due(&times, &seen, now + SECOND), Due::Park);
        seen.is_parked = true;
        assert_eq!(due(&times, &seen, now + SECOND), Due::At(now + 20 * SECOND));
        assert_eq!(due(&times, &seen, now + 20 * SECOND), Due::Ping);
        seen.pinged_at = Some(now + 20 * SECOND);
        assert_eq!(due(&times, &seen, now + 39 * SECOND), Due::At(now + 40 * SECOND));
        assert_eq!(due(&times, &seen, now + 40 * SECOND), Due::End(End::Dead));
        seen.heard_at = now + 21 * SECOND;
        assert_eq!(due(&times, &seen, now + 40 * SECOND), Due::At(now + 41 * SECOND));
        assert_eq!(due(&times, &seen, now + 41 * SECOND), Due::Ping);
    }

    #[test]
    fn pongs_do_not_keep_an_idle_socket_and_work_does() {
        let now = Instant::now();
        let (times, mut seen) = socket(now);
        seen.heard_at = now + 59 * SECOND;
        assert_eq!(due(&times, &seen, now + 60 * SECOND), Due::End(End::Idle));
        seen.is_busy = true;
        assert!(matches!(due(&times, &seen, now + 60 * SECOND), Due::At(_)));
    }

    #[test]
    fn a_message_that_does_not_end_ends_its_socket() {
        let now = Instant::now();
        let (times, mut seen) = socket(now);
        (seen.message_since, seen.heard_at, seen.is_parked) = (Some(now), now + 29 * SECOND, true);
        assert_eq!(due(&times, &seen, now + 29 * SECOND), Due::At(now + 30 * SECOND));
        assert_eq!(due(&times, &seen, now + 30 * SECOND), Due::End(End::Breach(Breach::Slow)));
    }

    #[test]
    fn every_socket_grows_old() {
        let now = Instant::now();
        let (times, mut seen) = socket(now);
        (seen.input_at, seen.heard_at, seen.is_busy) = (now + 3600 * SECOND, now + 3600 * SECOND, true);
        assert_eq!(due(&times, &seen, now + 3600 * SECOND), Due::End(End::Old));
    }
}
