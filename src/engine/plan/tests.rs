//! The rules of batching, each as a decision over plain values.

use proptest::prelude::*;

use super::*;

pub(super) const MS: Duration = Duration::from_millis(1);
const SMALL: Size = (64, 64);
const WIDE: Size = (128, 64);

/// What a decision is taken over, with nothing in it.
pub(super) struct Given {
    pub(super) waiting: Vec<Waiting>,
    pub(super) running: Vec<Running>,
    pub(super) checking: Vec<Checking>,
    pub(super) turns: Turns,
    pub(super) costs: Costs,
    pub(super) sides: Sides,
    pub(super) limits: Limits,
    pub(super) outlook: Outlook,
    pub(super) now: Instant,
}

impl Given {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            waiting: Vec::new(),
            running: Vec::new(),
            checking: Vec::new(),
            turns: Turns::default(),
            costs: Costs::default(),
            sides: Sides::default(),
            limits: Limits { rows, linger: Duration::ZERO, timesteps: Timesteps::PerRow },
            outlook: Outlook::Open,
            now: Instant::now(),
        }
    }

    /// Costs in milliseconds a row, the same whatever shares the call.
    pub(super) fn costing(mut self, [encode, step, decode]: [u32; 3]) -> Self {
        for (phase, ms) in [(Phase::Encode, encode), (Phase::Step, step), (Phase::Decode, decode)] {
            (0..3).for_each(|_| self.costs.note(phase, (SMALL, 1), ms * MS));
        }
        self
    }

    pub(super) fn decide(&self) -> Decision {
        next(&Scene {
            waiting: &self.waiting,
            running: &self.running,
            checking: &self.checking,
            turns: &self.turns,
            costs: &self.costs,
            sides: self.sides,
            limits: self.limits,
            outlook: self.outlook,
            now: self.now,
        })
    }

    pub(super) fn job(&self) -> Waiting {
        let (lane, order) = (Lane::new(), Order::InTurn);
        Waiting {
            lane,
            order,
            size: SMALL,
            rows: 1,
            steps: 4,
            since: self.now,
            start_by: None,
            waited: 0,
            placed: 0,
            turn: 0,
            begun: false,
            safety: SafetyCheck::Skipped,
        }
    }
}

pub(super) fn stepping(steps_left: usize) -> Running {
    Running { size: SMALL, timestep: 499, steps_left, waited: 0, safety: SafetyCheck::Skipped }
}

pub(super) fn finished() -> Running {
    stepping(0)
}

#[test]
fn nothing_waits_and_nothing_runs_so_the_device_rests() {
    assert_eq!(Given::new(4).decide(), Decision::Idle);
}

#[test]
fn a_lone_job_lingers_for_others_only_while_the_device_rests() {
    let mut given = Given::new(4);
    given.limits.linger = 2 * MS;
    given.waiting = vec![given.job()];
    assert_eq!(given.decide(), Decision::WaitUntil(given.now + 2 * MS));
    given.outlook = Outlook::Closing;
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
    given.outlook = Outlook::Open;
    given.running = vec![stepping(2)];
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
    given.running.clear();
    given.now += 2 * MS;
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
}

#[test]
fn a_full_batch_or_a_deadline_ends_the_lingering() {
    let mut given = Given::new(2);
    given.limits.linger = 2 * MS;
    given.waiting = vec![given.job(), given.job(), given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1]));
    given.waiting = vec![Waiting { start_by: Some(given.now + MS), ..given.job() }];
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
    given.waiting = vec![given.job(), Waiting { size: WIDE, ..given.job() }];
    assert_eq!(given.decide(), Decision::WaitUntil(given.now + 2 * MS), "two sizes fill no batch");
}

#[test]
fn the_rest_of_a_job_that_has_begun_does_not_linger() {
    let mut given = Given::new(2);
    given.limits.linger = 2 * MS;
    given.waiting = vec![Waiting { begun: true, ..given.job() }];
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
}

#[test]
fn the_newest_stroke_of_a_lane_goes_first() {
    let mut given = Given::new(2);
    let lane = Lane::new();
    let stroke = Waiting { lane, order: Order::NewestFirst, ..given.job() };
    given.waiting = vec![stroke, given.job(), stroke, stroke];
    assert_eq!(given.decide(), Decision::Encode(vec![1, 3]));
    given.running = vec![stepping(1)];
    given.waiting = vec![stroke, stroke];
    assert_eq!(given.decide(), Decision::Encode(vec![1]));
}

#[test]
fn jobs_that_all_count_go_as_they_came() {
    let mut given = Given::new(2);
    let lane = Lane::new();
    given.waiting =
        vec![Waiting { lane, ..given.job() }, Waiting { lane, ..given.job() }, Waiting { lane, ..given.job() }];
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1]));
}

#[test]
fn no_lane_gets_a_second_row_before_another_waiting_lane_gets_its_first() {
    let mut given = Given::new(3);
    let greedy = Waiting { rows: 8, ..given.job() };
    given.waiting = vec![greedy, given.job(), given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1, 2]));
    // Nor later, when the greedy lane has had rows and another one comes.
    given.turns.take(greedy.lane, 0, 3);
    given.waiting = vec![Waiting { begun: true, ..greedy }, given.job()];
    given.running = vec![stepping(1), stepping(1)];
    assert_eq!(given.decide(), Decision::Encode(vec![1]));
}

#[test]
fn equals_go_by_their_deadlines() {
    let mut given = Given::new(2);
    let by = |ms: u32| Some(given.now + ms * MS);
    given.waiting = vec![
        given.job(),
        Waiting { start_by: by(90), ..given.job() },
        Waiting { start_by: by(50), ..given.job() },
        given.job(),
    ];
    assert_eq!(given.decide(), Decision::Encode(vec![2, 1]));
}

#[test]
fn a_turn_goes_before_a_deadline() {
    let mut given = Given::new(1);
    let hurried = Waiting { start_by: Some(given.now + MS), ..given.job() };
    given.turns.take(hurried.lane, 0, 1);
    given.waiting = vec![hurried, given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![1]));
}

#[test]
fn rows_of_different_sizes_never_share_a_call() {
    let mut given = Given::new(4);
    let wide = |row: Running| Running { size: WIDE, ..row };
    given.waiting = vec![given.job(), Waiting { size: WIDE, ..given.job() }, given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![0, 2]));
    given.waiting.clear();
    given.running = vec![stepping(1), wide(stepping(1)), stepping(2)];
    assert_eq!(given.decide(), Decision::Step(vec![0, 2]));
    given.running = vec![wide(finished()), finished(), finished()];
    assert_eq!(given.decide(), Decision::Decode(vec![0]));
}

#[test]
fn a_place_is_kept_for_whoever_is_next_also_where_its_size_cannot_share_the_call() {
    let mut given = Given::new(2);
    given.waiting = vec![given.job(), Waiting { size: WIDE, ..given.job() }, given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
}

#[test]
fn sizes_take_turns_at_the_unet() {
    let mut given = Given::new(4);
    given.running = vec![stepping(3), Running { size: WIDE, waited: 1, ..stepping(3) }];
    assert_eq!(given.decide(), Decision::Step(vec![1]));
}

#[test]
fn rows_at_any_timestep_share_a_call_unless_the_model_takes_one_for_all() {
    let mut given = Given::new(4);
    given.running = vec![stepping(3), Running { timestep: 259, ..stepping(1) }, stepping(2)];
    assert_eq!(given.decide(), Decision::Step(vec![0, 1, 2]));
    given.limits.timesteps = Timesteps::Shared;
    assert_eq!(given.decide(), Decision::Step(vec![0, 2]));
    given.running[1].waited = 1;
    assert_eq!(given.decide(), Decision::Step(vec![1]), "whoever was left out goes next");
}

#[test]
fn a_newcomer_waits_at_most_one_step() {
    // Encoding costs far more than the step: a decode has just been made, and the newcomer does not fit beside it.
    let mut given = Given::new(4).costing([50, 10, 10]);
    given.running = vec![stepping(3)];
    given.waiting = vec![given.job()];
    given.sides.note(Phase::Decode, 10 * MS);
    assert_eq!(given.decide(), Decision::Step(vec![0]));
    // The step was made: now it goes, whatever it costs, and so do all that came with it.
    given.sides.note(Phase::Step, 10 * MS);
    let overdue = || Waiting { waited: 1, placed: 1, ..given.job() };
    given.waiting = vec![overdue(), overdue(), given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1]));
    // Also after another encode, of another size for instance.
    given.sides.note(Phase::Encode, 50 * MS);
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1]));
}

#[test]
fn those_who_had_to_wait_for_a_place_do_not_hold_up_the_steps() {
    let mut given = Given::new(4).costing([8, 10, 10]);
    given.running = vec![stepping(3)];
    given.waiting = (0..3).map(|_| Waiting { waited: 5, placed: 1, ..given.job() }).collect();
    assert_eq!(given.decide(), Decision::Encode(vec![0]), "two would take longer than the step");
    given.waiting.iter_mut().for_each(|job| job.waited = 1);
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1, 2]), "newcomers do not wait for another one");
}

#[test]
fn a_deadline_far_away_does_not_go_before_a_job_without_one() {
    let mut given = Given::new(1);
    let by = |ms: u32| Some(given.now + ms * MS);
    given.waiting = vec![Waiting { start_by: by(30_000), ..given.job() }, given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![1]));
    given.waiting = vec![given.job(), Waiting { start_by: by(300), ..given.job() }];
    assert_eq!(given.decide(), Decision::Encode(vec![1]));
}

#[test]
fn encode_and_decode_never_stall_the_steps_longer_than_one_step() {
    let mut given = Given::new(8).costing([4, 10, 6]);
    given.running = vec![stepping(3), finished(), finished(), finished()];
    given.waiting = vec![given.job(), given.job(), given.job()];
    // Six milliseconds fit once into ten, and four beside them.
    assert_eq!(given.decide(), Decision::Decode(vec![1]));
    given.sides.note(Phase::Decode, 6 * MS);
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
    given.sides.note(Phase::Encode, 4 * MS);
    assert_eq!(given.decide(), Decision::Step(vec![0]));
    given.sides.note(Phase::Step, 10 * MS);
    // The other kind goes first now.
    assert_eq!(given.decide(), Decision::Decode(vec![1]));
}

#[test]
fn a_row_that_takes_longer_than_a_step_goes_alone_and_the_kinds_take_turns() {
    let mut given = Given::new(8).costing([15, 10, 30]);
    given.running = vec![stepping(3), finished(), finished()];
    given.waiting = vec![given.job()];
    assert_eq!(given.decide(), Decision::Decode(vec![1]));
    given.sides.note(Phase::Decode, 30 * MS);
    assert_eq!(given.decide(), Decision::Step(vec![0]));
    given.sides.note(Phase::Step, 10 * MS);
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
    given.sides.note(Phase::Encode, 15 * MS);
    assert_eq!(given.decide(), Decision::Step(vec![0]));
}

#[test]
fn all_that_waits_shares_a_call_where_nothing_steps() {
    let mut given = Given::new(4).costing([40, 10, 25]);
    given.running = vec![finished(); 6];
    assert_eq!(given.decide(), Decision::Decode(vec![0, 1, 2, 3]));
    given.running.clear();
    given.waiting = vec![given.job(), given.job(), given.job()];
    assert_eq!(given.decide(), Decision::Encode(vec![0, 1, 2]));
}

#[test]
fn nobody_begins_where_all_places_are_taken_or_pictures_pile_up_before_the_decoder() {
    let mut given = Given::new(2);
    given.waiting = vec![Waiting { waited: 9, placed: 9, ..given.job() }];
    given.running = vec![stepping(1), stepping(2)];
    assert_eq!(given.decide(), Decision::Step(vec![0, 1]));
    given.running = vec![stepping(1), finished(), finished()];
    assert_eq!(given.decide(), Decision::Decode(vec![1, 2]));
    given.running = vec![stepping(1), finished()];
    given.sides.note(Phase::Decode, MS);
    assert_eq!(given.decide(), Decision::Encode(vec![0]));
}

fn a_row() -> impl Strategy<Value = Running> {
    (1_u32..3, 0_u32..3, 0_usize..4, 0_u64..3).prop_map(|(size, timestep, steps_left, waited)| Running {
        size: (64 * size, 64),
        timestep,
        steps_left,
        waited,
        safety: SafetyCheck::Skipped,
    })
}

proptest! {
    #[test]
    fn every_call_has_one_size_room_and_work_for_its_rows(
        running in prop::collection::vec(a_row(), 0..8),
        waiting in prop::collection::vec((0_usize..4, 1_u32..3, 1_usize..4, 0_u64..2), 0..12),
        (rows, shared, checking) in (1_usize..6, any::<bool>(), 0_usize..8),
        costs in prop::option::of([1_u32..40, 1_u32..40, 1_u32..40]),
    ) {
        let mut given = Given::new(rows);
        if let Some(costs) = costs {
            given = given.costing(costs);
        }
        given.limits.timesteps = if shared { Timesteps::Shared } else { Timesteps::PerRow };
        let lanes: [Lane; 4] = std::array::from_fn(|_| Lane::new());
        given.waiting = waiting
            .into_iter()
            .map(|(lane, size, rows, waited)| {
                Waiting { lane: lanes[lane], size: (64 * size, 64), rows, waited, placed: waited, ..given.job() }
            })
            .collect();
        given.running = running;
        given.checking = vec![Checking { waited: 0 }; checking.min(rows)];
        let stepping = given.running.iter().filter(|row| row.steps_left > 0).count();
        let sizes: Vec<Size> = match given.decide() {
            Decision::Idle => {
                prop_assert!(given.waiting.is_empty() && given.running.is_empty() && given.checking.is_empty());
                Vec::new()
            }
            Decision::WaitUntil(_) => unreachable!("nobody lingers"),
            Decision::Encode(picks) => {
                prop_assert!(picks.len() + stepping <= rows);
                for index in 0..given.waiting.len() {
                    prop_assert!(picks.iter().filter(|pick| **pick == index).count() <= given.waiting[index].rows);
                }
                picks.iter().map(|index| given.waiting[*index].size).collect()
            }
            Decision::Step(rows) => {
                prop_assert!(rows.is_sorted() && rows.iter().all(|row| given.running[*row].steps_left > 0));
                if shared {
                    prop_assert!(rows.iter().all(|row| given.running[*row].timestep == given.running[rows[0]].timestep));
                }
                rows.iter().map(|row| given.running[*row].size).collect()
            }
            Decision::Decode(rows) => {
                prop_assert!(rows.is_sorted() && rows.iter().all(|row| given.running[*row].steps_left == 0));
                prop_assert!(rows.len() + given.checking.len() <= given.limits.rows, "no more wait for the checker");
                rows.iter().map(|row| given.running[*row].size).collect()
            }
            Decision::Check(pictures) => {
                prop_assert!(pictures.is_sorted() && pictures.len() <= rows && !pictures.is_empty());
                prop_assert!(pictures.iter().all(|picture| *picture < given.checking.len()));
                Vec::new()
            }
        };
        prop_assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
