//! The rules of safety checks, each as a decision over plain values.

use super::tests::{Given, MS, finished, stepping};
use super::*;

#[test]
fn a_check_is_a_call_beside_the_steps_like_the_others() {
    let mut given = Given::new(8).costing([4, 10, 6]);
    (0..3).for_each(|_| given.costs.note(Phase::Check, (ANY_SIZE, 1), 2 * MS));
    given.running = vec![stepping(3), finished(), finished()];
    given.checking = vec![Checking { waited: 0 }; 4];
    given.waiting = vec![given.job()];
    // Six milliseconds fit once into ten, two twice beside them, and then there is no time left for four.
    assert_eq!(given.decide(), Decision::Decode(vec![1]));
    given.sides.note(Phase::Decode, 6 * MS);
    assert_eq!(given.decide(), Decision::Check(vec![0, 1]));
    given.sides.note(Phase::Check, 4 * MS);
    assert_eq!(given.decide(), Decision::Step(vec![0]));
    given.sides.note(Phase::Step, 10 * MS);
    // The kind that had no turn goes first now, then those that had one, in their order.
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
    given.sides.note(Phase::Encode, 4 * MS);
    assert_eq!(given.decide(), Decision::Decode(vec![1]));
}

#[test]
fn a_check_that_takes_longer_than_a_step_goes_alone_and_nobody_starves() {
    let mut given = Given::new(8).costing([15, 10, 30]);
    (0..3).for_each(|_| given.costs.note(Phase::Check, (ANY_SIZE, 1), 50 * MS));
    given.running = vec![stepping(9), finished(), finished()];
    given.checking = vec![Checking { waited: 0 }; 2];
    given.waiting = vec![given.job()];
    let mut ran = Vec::new();
    for _ in 0..6 {
        let (phase, took) = match given.decide() {
            Decision::Encode(rows) if rows.len() == 1 => (Phase::Encode, 15 * MS),
            Decision::Decode(rows) if rows.len() == 1 => (Phase::Decode, 30 * MS),
            Decision::Check(pictures) if pictures.len() == 1 => (Phase::Check, 50 * MS),
            Decision::Step(_) => (Phase::Step, 10 * MS),
            other => panic!("{other:?}"),
        };
        given.sides.note(phase, took);
        ran.push(phase);
    }
    let step = Phase::Step;
    assert_eq!(ran, [Phase::Decode, step, Phase::Check, step, Phase::Encode, step]);
}

#[test]
fn pictures_of_any_number_up_to_the_limit_share_a_check_where_nothing_steps() {
    let mut given = Given::new(4);
    given.checking = vec![Checking { waited: 0 }; 6];
    assert_eq!(given.decide(), Decision::Check(vec![0, 1, 2, 3]));
    given.limits.linger = 2 * MS;
    given.waiting = vec![given.job()];
    given.sides.note(Phase::Check, MS);
    assert_eq!(given.decide(), Decision::Encode(vec![0]), "nobody lingers while a picture waits");
}

#[test]
fn nothing_is_decoded_where_pictures_pile_up_before_the_checker() {
    let mut given = Given::new(2);
    given.running = vec![finished(), finished()];
    given.checking = vec![Checking { waited: 0 }];
    assert_eq!(given.decide(), Decision::Decode(vec![0]));
    given.checking = vec![Checking { waited: 0 }; 2];
    assert_eq!(given.decide(), Decision::Check(vec![0, 1]));
}
