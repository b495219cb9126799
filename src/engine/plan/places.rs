//! Who is next: which waiting rows get the free places on the device.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Duration;

use crate::engine::{Lane, Order};

use super::{Turns, Waiting};

/// How soon a job without a deadline wants to start, among equals: deadlines further away than that do not go before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gives `free` places to waiting rows: indices of their jobs, one a row, in the order in which they go.
///
/// Turns come first: no lane has a second row before another one has its first. Equal turns go by the time at which it is too
/// late to start ([`PATIENCE`] after its arrival for a job that has no such time), then by arrival. Within a lane the newest
/// goes first where it asks for that.
///
/// [`Turns`] says why nobody waits for ever.
pub(super) fn give(waiting: &[Waiting], turns: &Turns, free: usize) -> Vec<usize> {
    let mut lanes: HashMap<Lane, Vec<usize>> = HashMap::new();
    for (index, job) in waiting.iter().enumerate() {
        lanes.entry(job.lane).or_default().push(index);
    }
    let mut rows = Vec::new();
    for (lane, mut jobs) in lanes {
        jobs.sort_by_key(|index| rank(waiting[*index].order, *index));
        let of_lane = jobs.into_iter().flat_map(|index| std::iter::repeat_n(index, waiting[index].rows));
        let mut next = turns.of(lane);
        rows.extend(of_lane.take(free).map(|index| {
            let job = &waiting[index];
            let turn = next.max(job.turn);
            next = turn + 1;
            (turn, job.start_by.unwrap_or(job.since + PATIENCE), index)
        }));
    }
    rows.sort_unstable();
    rows.into_iter().take(free).map(|(.., index)| index).collect()
}

/// The place of a job within its lane: the newest of those that ask for it, then the others as they came.
fn rank(order: Order, index: usize) -> (bool, Reverse<usize>, usize) {
    match order {
        Order::NewestFirst | Order::Supersedes => (false, Reverse(index), index),
        Order::InTurn => (true, Reverse(0), index),
    }
}
