//! What the device does next: a decision over plain values, taken anew between any two calls. The batcher carries it out.

mod places;
mod turns;

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::SafetyCheck;
use super::costs::{ANY_SIZE, Costs, Phase, Size};
use super::facts::Timesteps;
use super::lane::{Lane, Order};

pub(super) use turns::Turns;

/// What the decision needs to know of a job with rows that have not begun.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Waiting {
    /// Whose it is.
    pub(super) lane: Lane,
    /// How it stands to the older jobs of its lane.
    pub(super) order: Order,
    /// Width and height in pixels.
    pub(super) size: Size,
    /// Rows that have not begun.
    pub(super) rows: usize,
    /// UNet evaluations that each of them takes.
    pub(super) steps: usize,
    /// When it came.
    pub(super) since: Instant,
    /// When it is too late to start; `None` also once a row of it has begun.
    pub(super) start_by: Option<Instant>,
    /// UNet calls that have begun since it came.
    pub(super) waited: u64,
    /// Those of them that began although it had a place.
    pub(super) placed: u64,
    /// The turn that all lanes had come to when it came.
    pub(super) turn: u64,
    /// Whether a row of it has begun.
    pub(super) begun: bool,
    /// Whether its pictures are checked.
    pub(super) safety: SafetyCheck,
}

/// What the decision needs to know of a row that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    /// Width and height in pixels.
    pub(super) size: Size,
    /// Where its next evaluation is; of no account without one.
    pub(super) timestep: u32,
    /// Evaluations that are left. Without any it waits to be decoded.
    pub(super) steps_left: usize,
    /// UNet calls since its own last call.
    pub(super) waited: u64,
    /// Whether its picture is checked once it is decoded.
    pub(super) safety: SafetyCheck,
}

/// What the decision needs to know of a decoded picture that waits for its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checking {
    /// UNet calls since it was decoded.
    pub(super) waited: u64,
}

/// What a call may hold, and how long a job may wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Rows of a call, and rows that are under way before their decoding.
    pub(super) rows: usize,
    /// How long the oldest job waits for others while the device rests.
    pub(super) linger: Duration,
    /// Whether rows at different timesteps share a call.
    pub(super) timesteps: Timesteps,
}

/// Whether more jobs may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// They may.
    Open,
    /// None will: waiting for batch mates is vain.
    Closing,
}

/// A call beside the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Encode,
    Decode,
    Check,
}

impl Side {
    const fn phase(self) -> Phase {
        match self {
            Self::Encode => Phase::Encode,
            Self::Decode => Phase::Decode,
            Self::Check => Phase::Check,
        }
    }
}

/// What ran beside the steps since the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sides {
    /// The kinds, from the one whose last turn is longest ago, and whether each has run since the last step.
    order: [(Side, bool); 3],
    spent: Duration,
}

impl Default for Sides {
    fn default() -> Self {
        Self { order: [(Side::Decode, false), (Side::Check, false), (Side::Encode, false)], spent: Duration::ZERO }
    }
}

impl Sides {
    /// A call of this kind was made.
    pub(super) fn note(&mut self, phase: Phase, took: Duration) {
        match self.order.iter().position(|(side, _)| side.phase() == phase) {
            Some(place) => {
                self.order[place].1 = true;
                self.order[place..].rotate_left(1);
                self.spent += took;
            }
            // A step: all of them may run again.
            None => *self = Self { order: self.order.map(|(side, _)| (side, false)), spent: Duration::ZERO },
        }
    }

    fn ran(&self, phase: Phase) -> bool {
        self.order.iter().any(|(side, ran)| side.phase() == phase && *ran)
    }

    fn any_ran(&self) -> bool {
        self.order.iter().any(|(_, ran)| *ran)
    }
}

/// All that a decision is taken over.
pub(super) struct Scene<'a> {
    /// Jobs with rows that have not begun, in order of arrival, none of them expired.
    pub(super) waiting: &'a [Waiting],
    /// Rows that have begun, in their order.
    pub(super) running: &'a [Running],
    /// Decoded pictures that wait for their check, in their order.
    pub(super) checking: &'a [Checking],
    /// Which turn each lane has come to.
    pub(super) turns: &'a Turns,
    /// What calls cost.
    pub(super) costs: &'a Costs,
    /// What ran since the last step.
    pub(super) sides: Sides,
    pub(super) limits: Limits,
    pub(super) outlook: Outlook,
    pub(super) now: Instant,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing waits and nothing runs.
    Idle,
    /// Decide again at this time, or when another job has come.
    WaitUntil(Instant),
    /// Encode a row of each of these waiting jobs: indices, one a row, in order of their turns.
    Encode(Vec<usize>),
    /// Evaluate the UNet for these running rows: indices, ascending.
    Step(Vec<usize>),
    /// Decode these running rows: indices, ascending.
    Decode(Vec<usize>),
    /// Check these decoded pictures, of whatever sizes: indices, ascending.
    Check(Vec<usize>),
}

/// Decides what the device does next.
///
/// Between two UNet calls at most one encode, one decode and one check take place, together no longer than the step that waits for
/// them as far as costs are known, the kind first whose last turn is longer ago. One row goes in any case, and so does every
/// newcomer that found a place when it came and has waited for a step already. Where nothing steps, nobody is held up, and
/// all that can shares a call.
pub(super) fn next(scene: &Scene<'_>) -> Decision {
    let places = scene.places();
    if let Some(until) = scene.lingering(&places) {
        return Decision::WaitUntil(until);
    }
    let steps = scene.steps();
    for (side, _) in scene.sides.order {
        let decision = match side {
            Side::Encode => scene.encodes(&places, &steps).map(Decision::Encode),
            Side::Decode => scene.decodes(&steps).map(Decision::Decode),
            Side::Check => scene.checks(&steps).map(Decision::Check),
        };
        if let Some(decision) = decision {
            return decision;
        }
    }
    if steps.is_empty() { Decision::Idle } else { Decision::Step(steps) }
}

impl Waiting {
    /// Whether it found a place as soon as it came, and has been passed over by a UNet call. Who had to wait for a place has
    /// waited longer than that anyhow: such jobs are encoded as fast as steps are not held up by it.
    const fn is_overdue(&self) -> bool {
        self.waited > 0 && self.placed == self.waited
    }
}

impl Scene<'_> {
    /// The waiting rows that have a place on the device now: indices of their jobs, in order of their turns.
    pub(super) fn places(&self) -> Vec<usize> {
        let undecoded = self.running.iter().filter(|row| row.steps_left == 0).count();
        let stepping = self.running.len() - undecoded;
        // Pictures that pile up before the decoder are finished first.
        let free = if undecoded < self.limits.rows { self.limits.rows.saturating_sub(stepping) } else { 0 };
        places::give(self.waiting, self.turns, free)
    }

    /// Until when the device rests although a job waits: for others to share its calls.
    fn lingering(&self, places: &[usize]) -> Option<Instant> {
        let oldest = self.waiting.first()?;
        let rests = self.running.is_empty() && self.checking.is_empty() && self.waiting.iter().all(|job| !job.begun);
        if !rests || self.outlook == Outlook::Closing {
            return None;
        }
        let until = oldest.since + self.limits.linger;
        let pressed = |index: &usize| self.waiting[*index].start_by.is_some_and(|start_by| start_by <= until);
        let first = places.first()?;
        let mates = places.iter().filter(|index| self.waiting[**index].size == self.waiting[*first].size).count();
        let goes = until <= self.now || mates >= self.limits.rows || places.iter().any(pressed);
        (!goes).then_some(until)
    }

    /// The rows of the next UNet call: the one that has waited for most calls, and all that may share its call.
    fn steps(&self) -> Vec<usize> {
        let stepping = || self.running.iter().enumerate().filter(|(_, row)| row.steps_left > 0);
        let Some((_, first)) = stepping().reduce(|a, b| if b.1.waited > a.1.waited { b } else { a }) else {
            return Vec::new();
        };
        let shares = |row: &Running| {
            row.size == first.size
                && match self.limits.timesteps {
                    Timesteps::PerRow => true,
                    Timesteps::Shared => row.timestep == first.timestep,
                }
        };
        let mut rows: Vec<(usize, &Running)> = stepping().filter(|(_, row)| shares(row)).collect();
        // More than fit are only there after memory has run short.
        rows.sort_by_key(|(_, row)| Reverse(row.waited));
        let mut rows: Vec<usize> = rows.into_iter().map(|(index, _)| index).take(self.limits.rows).collect();
        rows.sort_unstable();
        rows
    }

    /// The next rows to encode, unless a step comes first.
    fn encodes(&self, places: &[usize], steps: &[usize]) -> Option<Vec<usize>> {
        let overdue = |index: &&usize| self.waiting[**index].is_overdue();
        let first = places.iter().find(overdue).or(places.first())?;
        let size = self.waiting[*first].size;
        let rows: Vec<usize> = places.iter().copied().filter(|index| self.waiting[*index].size == size).collect();
        // Who has waited for a step does not wait for another one.
        let musts = rows.iter().filter(|index| overdue(index)).count();
        let count = self.side_rows(Phase::Encode, (size, rows.len()), steps).max(musts);
        let (musts, others): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(|index| overdue(&index));
        (count > 0).then(|| musts.into_iter().chain(others).take(count).collect())
    }

    /// The next rows to decode, unless a step comes first.
    fn decodes(&self, steps: &[usize]) -> Option<Vec<usize>> {
        let finished = || self.running.iter().enumerate().filter(|(_, row)| row.steps_left == 0);
        let (_, first) = finished().reduce(|a, b| if b.1.waited > a.1.waited { b } else { a })?;
        let size = first.size;
        let rows: Vec<usize> = finished().filter(|(_, row)| row.size == size).map(|(index, _)| index).collect();
        // Pictures that pile up before the checker are checked first.
        let most = rows.len().min(self.limits.rows.saturating_sub(self.checking.len()));
        let count = self.side_rows(Phase::Decode, (size, most), steps);
        (count > 0).then(|| rows.into_iter().take(count).collect())
    }

    /// The next pictures to check, unless a step comes first: those that were decoded first.
    fn checks(&self, steps: &[usize]) -> Option<Vec<usize>> {
        let most = self.checking.len().min(self.limits.rows);
        let count = self.side_rows(Phase::Check, (ANY_SIZE, most), steps);
        (count > 0).then(|| (0..count).collect())
    }

    /// How many of `rows` rows a call beside the steps may hold now.
    fn side_rows(&self, phase: Phase, (size, rows): (Size, usize), steps: &[usize]) -> usize {
        let Some(first) = steps.first() else {
            // Nothing steps, so that nobody is held up by those who share the call.
            return rows;
        };
        if self.sides.ran(phase) || rows == 0 {
            return 0;
        }
        let step = self.costs.predict(Phase::Step, (self.running[*first].size, steps.len()));
        let Some(step) = step else { return rows };
        let fitting = self.costs.fitting(phase, (size, rows), step.saturating_sub(self.sides.spent));
        if self.sides.any_ran() { fitting } else { fitting.max(1) }
    }
}
