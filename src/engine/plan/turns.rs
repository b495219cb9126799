//! Fair shares: the how-manieth turn of its lane a row is.

use std::collections::HashMap;

use crate::engine::Lane;

/// Lanes whose turns are remembered. With more of them all begin anew, which costs fairness for one turn.
const LANES: usize = 4_096;

/// Which turn each lane has come to.
///
/// Rows run in the order of their turns. A lane that comes, or comes back, stands where the others have come to: it has not
/// saved up turns, and nobody has got ahead of it.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Turns {
    now: u64,
    /// Lanes whose next turn is later than now.
    ahead: HashMap<Lane, u64>,
}

impl Turns {
    /// The turn that the next row of a lane has.
    pub(in crate::engine) fn of(&self, lane: Lane) -> u64 {
        self.ahead.get(&lane).copied().unwrap_or(self.now)
    }

    /// A row of a lane begins.
    pub(in crate::engine) fn take(&mut self, lane: Lane) {
        let turn = self.of(lane);
        if turn > self.now {
            self.now = turn;
            self.ahead.retain(|_, next| *next > turn);
        }
        if self.ahead.len() >= LANES {
            self.now += 1;
            self.ahead.clear();
        }
        self.ahead.insert(lane, self.now + 1);
    }

    /// Nobody waits: all stand equal.
    pub(in crate::engine) fn rest(&mut self) {
        self.ahead.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_that_comes_stands_before_the_second_turn_of_the_others() {
        let (first, second) = (Lane::new(), Lane::new());
        let mut turns = Turns::default();
        turns.take(first);
        turns.take(first);
        assert!(turns.of(second) < turns.of(first));
        turns.take(second);
        assert_eq!(turns.of(second), turns.of(first));
    }

    #[test]
    fn a_lane_that_was_away_has_saved_up_nothing() {
        let (away, busy) = (Lane::new(), Lane::new());
        let mut turns = Turns::default();
        turns.take(away);
        for _ in 0..10 {
            turns.take(busy);
        }
        assert_eq!(turns.of(away) + 1, turns.of(busy));
    }

    #[test]
    fn lanes_are_forgotten_when_the_others_have_come_as_far_and_when_there_are_too_many() {
        let mut turns = Turns::default();
        let lanes: Vec<Lane> = (0..LANES).map(|_| Lane::new()).collect();
        lanes.iter().for_each(|lane| turns.take(*lane));
        assert_eq!(turns.ahead.len(), LANES);
        turns.take(Lane::new());
        assert_eq!(turns.ahead.len(), 1);
        turns.take(lanes[0]);
        turns.take(lanes[0]);
        assert_eq!(turns.ahead.len(), 1);
        turns.rest();
        assert!(turns.ahead.is_empty());
    }
}
