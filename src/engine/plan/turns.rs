//! Fair shares: the how-manieth turn of its lane a row is.

use std::collections::HashMap;

use crate::engine::Lane;

/// Lanes whose turns are remembered. With more of them all begin anew, which costs fairness for one turn.
const LANES: usize = 4_096;
/// A turn is over after this many times as many rows as there are places, if it is not over before.
const ROUND: usize = 8;

/// Which turn each lane has come to: start-time fair queueing (Goyal, Vin and Cheng 1996) in rows.
///
/// Rows run in the order of their turns. A job of a lane that comes, or comes back, stands where all have come to at that moment: it has not
/// saved up turns, and nobody has got ahead of it. That moment goes on also while ever new lanes come, so that those who have had
/// a turn get their next one: whoever comes later than that stands behind them.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Turns {
    now: u64,
    /// Rows that have begun in this turn.
    begun: usize,
    /// The next turn of lanes that have had one, as far as it is not past.
    next: HashMap<Lane, u64>,
}

impl Turns {
    /// The turn that all have come to.
    pub(in crate::engine) const fn now(&self) -> u64 {
        self.now
    }

    /// The earliest turn of a lane's next row; 0 where all are open to it.
    pub(super) fn of(&self, lane: Lane) -> u64 {
        self.next.get(&lane).copied().unwrap_or(0)
    }

    /// A row of a lane begins: of a job that stands at `turn` or later, on a device with so many places.
    pub(in crate::engine) fn take(&mut self, lane: Lane, turn: u64, places: usize) {
        let turn = self.of(lane).max(turn);
        self.begun += 1;
        if turn > self.now {
            self.come_to(turn);
        } else if self.begun >= places.saturating_mul(ROUND) {
            self.come_to(self.now + 1);
        }
        if self.next.len() >= LANES {
            self.come_to(self.now + 1);
            self.next.clear();
        }
        self.next.insert(lane, turn + 1);
    }

    /// Nobody waits: all stand equal.
    pub(in crate::engine) fn rest(&mut self) {
        self.next.clear();
    }

    fn come_to(&mut self, turn: u64) {
        self.now = turn;
        self.begun = 0;
        self.next.retain(|_, next| *next >= turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 2;

    /// The turn of a job of a lane that comes now.
    fn turn(turns: &Turns, lane: Lane) -> u64 {
        turns.of(lane).max(turns.now())
    }

    fn take(turns: &mut Turns, lane: Lane) {
        let turn = turn(turns, lane);
        turns.take(lane, turn, PLACES);
    }

    #[test]
    fn a_lane_that_comes_stands_before_the_second_turn_of_the_others() {
        let (first, second) = (Lane::new(), Lane::new());
        let mut turns = Turns::default();
        take(&mut turns, first);
        take(&mut turns, first);
        assert!(turn(&turns, second) < turn(&turns, first));
        take(&mut turns, second);
        assert_eq!(turn(&turns, second), turn(&turns, first));
    }

    #[test]
    fn a_lane_that_was_away_has_saved_up_nothing() {
        let (away, busy) = (Lane::new(), Lane::new());
        let mut turns = Turns::default();
        take(&mut turns, away);
        for _ in 0..10 {
            take(&mut turns, busy);
        }
        assert_eq!(turn(&turns, away) + 1, turn(&turns, busy));
    }

    #[test]
    fn ever_new_lanes_do_not_keep_a_lane_from_its_second_turn() {
        let steady = Lane::new();
        let mut turns = Turns::default();
        take(&mut turns, steady);
        let (second, mut passed) = (turn(&turns, steady), 0);
        while turn(&turns, Lane::new()) <= second {
            take(&mut turns, Lane::new());
            passed += 1;
        }
        assert!(passed <= 2 * ROUND * PLACES, "{passed} went before it");
    }

    #[test]
    fn a_job_that_came_in_an_earlier_turn_keeps_it() {
        let (served, patient) = (Lane::new(), Lane::new());
        let mut turns = Turns::default();
        let came = turns.now();
        take(&mut turns, served);
        for _ in 0..2 * ROUND * PLACES {
            take(&mut turns, Lane::new());
        }
        assert!(turns.of(patient).max(came) < turns.now());
        turns.take(patient, came, PLACES);
        assert!(turn(&turns, patient) >= turns.now(), "and has gained nothing for the next one");
    }

    #[test]
    fn lanes_are_forgotten_when_all_have_come_further_and_when_there_are_too_many() {
        let mut turns = Turns::default();
        let lanes: Vec<Lane> = (0..LANES).map(|_| Lane::new()).collect();
        lanes.iter().for_each(|lane| turns.take(*lane, 0, LANES));
        assert_eq!(turns.next.len(), LANES);
        turns.take(Lane::new(), 0, LANES);
        assert_eq!(turns.next.len(), 1);
        for _ in 0..3 {
            take(&mut turns, lanes[0]);
        }
        assert_eq!(turns.next.len(), 1);
        turns.rest();
        assert!(turns.next.is_empty());
    }
}
