//! Who has a place and who waits for one, as plain values: it is told the time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::place::Guest;
use super::settings::WaitingSettings;

/// How long a stay is taken to be, until some have been seen.
const FIRST_STAY: Duration = Duration::from_secs(60);

/// Where a waiter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// 1 for who is next.
    pub place: u32,
    /// How long it will take, if stays are as long as the last ones were.
    pub wait: Duration,
}

impl Standing {
    /// The wait in whole seconds, at least one.
    #[must_use]
    pub fn wait_s(&self) -> u64 {
        (self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

/// What a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A place, used once more until [`Room::done`].
    Seated,
    /// None yet.
    Waits(Standing),
    /// Not even a place to wait.
    Full,
}

/// A caller at the engine.
#[derive(Debug)]
struct Seat {
    since: Instant,
    used_at: Instant,
    /// Inputs under way.
    in_use: u32,
    /// Its turn has come and it has not taken it up.
    is_kept: bool,
}

#[derive(Debug)]
struct Waiter {
    guest: Guest,
    /// Calls of it that wait right now: its tabs.
    present: u32,
    seen_at: Instant,
}

/// The places and the queue.
#[derive(Debug)]
pub(super) struct Room {
    places: usize,
    waiters: usize,
    idle: Duration,
    session: Duration,
    grace: Duration,
    seats: HashMap<Guest, Seat>,
    queue: VecDeque<Waiter>,
    /// How long the last callers kept their places, smoothed.
    stay: Duration,
    /// Grows with every change that a waiter could want to know of.
    version: u64,
}

impl Room {
    pub(super) fn new(settings: &WaitingSettings) -> Self {
        let session = Duration::from_secs(settings.session_s.get());
        Self {
            places: settings.places.get(),
            waiters: settings.waiters.get(),
            idle: Duration::from_secs(settings.idle_s.get()),
            session,
            grace: Duration::from_secs(settings.grace_s.get()),
            seats: HashMap::new(),
            queue: VecDeque::new(),
            stay: session.min(FIRST_STAY),
            version: 0,
        }
    }

    /// How many have a place, and how many wait.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.seats.len(), self.queue.len())
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// A call of a guest comes. Where it waits, it is present until [`Room::look`] seats it or [`Room::leave`].
    pub(super) fn come(&mut self, guest: &Guest, now: Instant) -> Answer {
        self.sweep(now);
        let others_wait = self.queue.iter().any(|waiter| waiter.guest != *guest);
        if let Some(seat) = self.seats.get_mut(guest).filter(|seat| !(others_wait && seat.since + self.session <= now))
        {
            seat.begin(now);
            return Answer::Seated;
        }
        if let Some(at) = self.position(guest) {
            self.queue[at].present += 1;
            return Answer::Waits(self.standing(at));
        }
        if self.queue.len() >= self.waiters {
            return Answer::Full;
        }
        self.queue.push_back(Waiter { guest: guest.clone(), present: 1, seen_at: now });
        self.look(guest, now)
    }

    /// How a guest stands whose call waits.
    pub(super) fn look(&mut self, guest: &Guest, now: Instant) -> Answer {
        self.sweep(now);
        if let Some(at) = self.position(guest) {
            return Answer::Waits(self.standing(at));
        }
        match self.seats.get_mut(guest) {
            Some(seat) => {
                seat.begin(now);
                Answer::Seated
            }
            // Its turn came and went unused, because it was not polled for so long.
            None => Answer::Full,
        }
    }

    /// A call that waited goes away.
    pub(super) fn leave(&mut self, guest: &Guest, now: Instant) {
        if let Some(at) = self.position(guest) {
            let waiter = &mut self.queue[at];
            waiter.present = waiter.present.saturating_sub(1);
            waiter.seen_at = now;
        }
        self.sweep(now);
        self.version += 1;
    }

    /// An input is done.
    pub(super) fn done(&mut self, guest: &Guest, now: Instant) {
        if let Some(seat) = self.seats.get_mut(guest) {
            seat.in_use = seat.in_use.saturating_sub(1);
            seat.used_at = now;
        }
        self.sweep(now);
    }

    /// When something changes that nobody says: somebody idle, gone or too long at the engine.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let others_wait = !self.queue.is_empty();
        let seats = self.seats.values().map(|seat| {
            if seat.in_use > 0 {
                return now + self.idle;
            }
            let idle_at = seat.used_at + if seat.is_kept { self.grace } else { self.idle };
            if others_wait { idle_at.min(seat.since + self.session) } else { idle_at }
        });
        let gone = self.queue.iter().filter(|waiter| waiter.present == 0).map(|waiter| waiter.seen_at + self.grace);
        seats.chain(gone).min()
    }

    fn position(&self, guest: &Guest) -> Option<usize> {
        self.queue.iter().position(|waiter| waiter.guest == *guest)
    }

    fn standing(&self, at: usize) -> Standing {
        let place = u32::try_from(at + 1).unwrap_or(u32::MAX);
        let places = u32::try_from(self.places).unwrap_or(u32::MAX);
        Standing { place, wait: self.stay.saturating_mul(place) / places }
    }

    /// Lets go of who is gone, and gives what is free to who is next.
    fn sweep(&mut self, now: Instant) {
        let before = (self.seats.len(), self.queue.len());
        let (idle, grace, session) = (self.idle, self.grace, self.session);
        self.queue.retain(|waiter| waiter.present > 0 || waiter.seen_at + grace > now);
        let others_wait = !self.queue.is_empty();
        let stay = &mut self.stay;
        self.seats.retain(|_, seat| {
            let idle_at = seat.used_at + if seat.is_kept { grace } else { idle };
            let is_over = idle_at <= now || others_wait && seat.since + session <= now;
            let keeps = seat.in_use > 0 || !is_over;
            if !keeps {
                *stay = (*stay * 3 + (now - seat.since)) / 4;
            }
            keeps
        });
        while let Some(next) = self.queue.front()
            && (self.seats.len() < self.places || self.seats.contains_key(&next.guest))
        {
            let Some(next) = self.queue.pop_front() else { return };
            let in_use = self.seats.get(&next.guest).map_or(0, |seat| seat.in_use);
            self.seats.insert(next.guest, Seat { since: now, used_at: now, in_use, is_kept: true });
        }
        self.version += u64::from(before != (self.seats.len(), self.queue.len()));
    }
}

impl Seat {
    fn begin(&mut self, now: Instant) {
        self.in_use += 1;
        self.used_at = now;
        self.is_kept = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(places: usize, waiters: usize) -> (Room, Instant) {
        let size = |value| std::num::NonZeroUsize::new(value).unwrap();
        let settings = WaitingSettings { places: size(places), waiters: size(waiters), ..WaitingSettings::default() };
        (Room::new(&settings), Instant::now())
    }

    fn guest(name: &str) -> Guest {
        Guest::Caller(name.into())
    }

    fn place(answer: Answer) -> u32 {
        match answer {
            Answer::Seated => 0,
            Answer::Waits(standing) => standing.place,
            Answer::Full => panic!("no room"),
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn guests_are_seated_in_the_order_in_which_they_came() {
        let (mut room, now) = room(1, 9);
        let names = ["a", "b", "c", "d"];
        let stands: Vec<u32> = names.iter().map(|name| place(room.come(&guest(name), now))).collect();
        assert_eq!(stands, [0, 1, 2, 3]);
        room.done(&guest("a"), now);
        for (at, next) in ["b", "c", "d"].into_iter().enumerate() {
            let now = now + s(30) * (u32::try_from(at).unwrap() + 1);
            assert_eq!(place(room.look(&guest(next), now)), 0, "{next}: the one before was idle");
            room.done(&guest(next), now);
        }
    }

    #[test]
    fn the_tabs_of_a_caller_share_a_place_in_the_room_and_in_the_queue() {
        let (mut room, now) = room(1, 1);
        assert_eq!((place(room.come(&guest("a"), now)), place(room.come(&guest("a"), now))), (0, 0));
        assert_eq!((place(room.come(&guest("b"), now)), place(room.come(&guest("b"), now))), (1, 1));
        assert_eq!(room.count(), (1, 1));
        assert_eq!(room.come(&guest("c"), now), Answer::Full);
        room.leave(&guest("b"), now);
        assert_eq!(place(room.look(&guest("b"), now + s(60))), 1, "its other tab is still there");
    }

    #[test]
    fn a_place_that_nobody_uses_is_free_again_and_one_in_use_is_not() {
        let (mut room, now) = room(1, 9);
        room.come(&guest("a"), now);
        room.come(&guest("b"), now);
        assert_eq!(place(room.look(&guest("b"), now + s(200))), 1, "an input of a is under way all the time");
        room.done(&guest("a"), now + s(200));
        assert_eq!(room.next_change(now + s(200)), Some(now + s(230)));
        assert_eq!(place(room.look(&guest("b"), now + s(229))), 1);
        assert_eq!(place(room.look(&guest("b"), now + s(230))), 0);
    }

    #[test]
    fn a_session_ends_only_where_somebody_waits_and_its_caller_queues_again() {
        let (mut room, now) = room(1, 9);
        let late = now + s(1000);
        room.come(&guest("a"), now);
        assert_eq!(place(room.come(&guest("a"), late)), 0, "nobody waits");
        assert_eq!(place(room.come(&guest("b"), late)), 1);
        assert_eq!(place(room.come(&guest("a"), late)), 2, "a has been there for long enough");
        room.done(&guest("a"), late);
        room.done(&guest("a"), late);
        assert_eq!((place(room.look(&guest("b"), late)), place(room.look(&guest("a"), late))), (0, 1));
    }

    #[test]
    fn a_waiter_who_comes_back_in_time_has_its_place_and_one_who_does_not_has_left() {
        let (mut room, now) = room(1, 9);
        for name in ["a", "b", "c"] {
            room.come(&guest(name), now);
        }
        room.leave(&guest("b"), now);
        assert_eq!(place(room.come(&guest("b"), now + s(19))), 1, "back in time");
        room.leave(&guest("b"), now + s(19));
        assert_eq!(place(room.look(&guest("c"), now + s(38))), 2);
        assert_eq!(place(room.look(&guest("c"), now + s(39))), 1);
        assert_eq!(place(room.come(&guest("b"), now + s(39))), 2, "at the end again");
    }

    #[test]
    fn a_turn_that_is_not_taken_up_is_kept_for_a_while_and_then_somebody_elses() {
        let (mut room, now) = room(1, 9);
        for name in ["a", "b", "c"] {
            room.come(&guest(name), now);
        }
        room.leave(&guest("b"), now + s(10));
        room.done(&guest("a"), now);
        assert_eq!(place(room.look(&guest("c"), now + s(29))), 1 + 1);
        let turn = now + s(30) - s(1);
        assert_eq!(place(room.look(&guest("c"), turn)), 2);
        room.come(&guest("b"), turn);
        room.leave(&guest("b"), turn);
        assert_eq!(place(room.look(&guest("c"), now + s(30))), 1, "it is b's turn");
        assert_eq!(place(room.look(&guest("c"), now + s(49))), 1);
        assert_eq!(place(room.look(&guest("c"), now + s(50))), 0);
    }

    #[test]
    fn the_wait_follows_the_place_and_how_long_others_stayed() {
        let (mut room, now) = room(2, 9);
        for name in ["a", "b", "c", "d"] {
            room.come(&guest(name), now);
        }
        let wait = |answer| match answer {
            Answer::Waits(standing) => standing.wait_s(),
            other => panic!("{other:?}"),
        };
        assert_eq!((wait(room.look(&guest("c"), now)), wait(room.look(&guest("d"), now))), (30, 60));
        room.done(&guest("a"), now + s(10));
        assert_eq!(place(room.look(&guest("c"), now + s(40))), 0);
        assert_eq!(wait(room.look(&guest("d"), now + s(40))), 28, "a stayed for 40 s, not for 60");
    }

    proptest::proptest! {
        #[test]
        fn there_are_never_more_than_the_room_holds(steps in proptest::collection::vec((0_u8..6, 0_u8..4, 0_u64..40), 1..200)) {
            let (mut room, mut now) = room(2, 3);
            let (mut using, mut waiting) = (Vec::new(), Vec::new());
            for (who, what, after) in steps {
                now += s(after);
                let name = guest(&who.to_string());
                match what {
                    0 | 1 => match room.come(&name, now) {
                        Answer::Seated => using.push(name),
                        Answer::Waits(_) => waiting.push(name),
                        Answer::Full => {}
                    },
                    2 if !waiting.is_empty() => {
                        let name = waiting.remove(0);
                        match room.look(&name, now) {
                            Answer::Seated => using.push(name),
                            Answer::Waits(_) => waiting.push(name),
                            Answer::Full => {}
                        }
                    }
                    3 if !using.is_empty() => room.done(&using.remove(0), now),
                    _ if !waiting.is_empty() => room.leave(&waiting.remove(0), now),
                    _ => {}
                }
                let (seated, queued) = room.count();
                proptest::prop_assert!(seated <= 2 && queued <= 3, "{} {}", seated, queued);
            }
        }
    }
}
