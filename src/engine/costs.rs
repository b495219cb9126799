//! What calls of the device cost, learnt from those that were made.

use std::collections::HashMap;
use std::time::Duration;

/// Sizes of which the costs are kept, for each phase.
const SIZES: usize = 32;
/// Calls after which a cost is believed: the first of a shape may be the one that plans its convolutions.
const BELIEVED: u32 = 3;
/// Share of a call in the average.
const WEIGHT: f64 = 0.2;
/// A call counts as at most this many times the average: one that was held up is no new cost.
const OUTLIER: f64 = 4.0;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Pictures to latents.
    Encode,
    /// One UNet evaluation of every row.
    Step,
    /// Latents to pictures.
    Decode,
    /// Pictures to verdicts of the safety checker.
    Check,
}

/// The size that checks are noted under: the checker sees every picture at its own size, so that they all cost the same.
pub(super) const ANY_SIZE: Size = (1, 1);

/// Width and height in pixels.
pub type Size = (u32, u32);

/// Measured costs by phase, size and rows: exponential averages, kept by the engine's thread.
///
/// A prediction is `None` until a few calls of its phase were measured, so that nobody is refused on a guess.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    known: HashMap<(Phase, Size), Known>,
    calls: u64,
}

/// The averages of one phase and size, ascending by rows.
#[derive(Debug, Clone, Default)]
struct Known {
    averages: Vec<Average>,
    last_call: u64,
}

#[derive(Debug, Clone, Copy)]
struct Average {
    rows: usize,
    seconds: f64,
    calls: u32,
}

impl Average {
    fn note(&mut self, seconds: f64) {
        self.calls = self.calls.saturating_add(1);
        if self.calls <= BELIEVED {
            self.seconds = self.seconds.min(seconds);
        } else {
            self.seconds += WEIGHT * (seconds.min(OUTLIER * self.seconds) - self.seconds);
        }
    }
}

impl Costs {
    /// Takes note of a call.
    pub fn note(&mut self, phase: Phase, (size, rows): (Size, usize), took: Duration) {
        self.calls += 1;
        let seconds = took.as_secs_f64();
        if !self.known.contains_key(&(phase, size)) {
            self.make_room(phase);
        }
        let known = self.known.entry((phase, size)).or_default();
        known.last_call = self.calls;
        match known.averages.binary_search_by_key(&rows, |average| average.rows) {
            Ok(place) => known.averages[place].note(seconds),
            Err(place) => known.averages.insert(place, Average { rows, seconds, calls: 1 }),
        }
    }

    /// Forgets the size that was not called for the longest time, where there are too many.
    fn make_room(&mut self, phase: Phase) {
        let of_phase = || self.known.iter().filter(|((known, _), _)| *known == phase);
        if of_phase().count() >= SIZES
            && let Some(oldest) = of_phase().min_by_key(|(_, known)| known.last_call).map(|(key, _)| *key)
        {
            self.known.remove(&oldest);
        }
    }

    /// What a call will take; `None` before enough was measured.
    ///
    /// Rows that were not measured are reckoned from their neighbours, and sizes from the nearest one by its area.
    #[must_use]
    pub fn predict(&self, phase: Phase, (size, rows): (Size, usize)) -> Option<Duration> {
        if let Some(seconds) = self.known.get(&(phase, size)).and_then(|known| known.predict(rows)) {
            return Some(Duration::from_secs_f64(seconds));
        }
        let area = |(width, height): Size| f64::from(width) * f64::from(height);
        let others = self.known.iter().filter(|((known, _), _)| *known == phase);
        let reckoned = others.filter_map(|((_, other), known)| {
            let ratio = area(size) / area(*other);
            Some((ratio.ln().abs(), *other, ratio * known.predict(rows)?))
        });
        let nearest = reckoned.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        nearest.map(|(_, _, seconds)| Duration::from_secs_f64(seconds))
    }

    /// The most rows, at most `rows`, whose call takes no longer than `within`; all where the cost is not known.
    #[must_use]
    pub fn fitting(&self, phase: Phase, (size, rows): (Size, usize), within: Duration) -> usize {
        let fits = |count: &usize| self.predict(phase, (size, *count)).is_none_or(|cost| cost <= within);
        (1..=rows).rev().find(fits).unwrap_or(0)
    }
}

impl Known {
    fn predict(&self, rows: usize) -> Option<f64> {
        let believed = || self.averages.iter().filter(|average| average.calls >= BELIEVED);
        let below = believed().rfind(|average| average.rows <= rows);
        let above = believed().find(|average| average.rows >= rows);
        match (below, above) {
            (Some(below), Some(above)) if below.rows < above.rows => {
                let share = (rows - below.rows) as f64 / (above.rows - below.rows) as f64;
                Some(below.seconds + share * (above.seconds - below.seconds))
            }
            (Some(known), Some(_)) => Some(known.seconds),
            // More rows than were measured: as if sharing a call saved nothing.
            (Some(below), None) => Some(below.seconds * rows as f64 / below.rows.max(1) as f64),
            // Fewer: as if they cost as much, which they do where the batch is fixed.
            (None, above) => above.map(|above| above.seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = (64, 64);
    const MS: Duration = Duration::from_millis(1);

    fn measured(calls: &[(usize, u32)]) -> Costs {
        let mut costs = Costs::default();
        for (rows, ms) in calls {
            for _ in 0..BELIEVED {
                costs.note(Phase::Step, (SMALL, *rows), *ms * MS);
            }
        }
        costs
    }

    fn step(costs: &Costs, size: Size, rows: usize) -> Option<u128> {
        costs.predict(Phase::Step, (size, rows)).map(|cost| cost.as_micros())
    }

    #[test]
    fn a_cost_is_believed_after_a_few_calls_and_the_first_may_be_slow() {
        let mut costs = Costs::default();
        for ms in [900, 20] {
            costs.note(Phase::Step, (SMALL, 1), ms * MS);
            assert_eq!(step(&costs, SMALL, 1), None);
        }
        costs.note(Phase::Step, (SMALL, 1), 21 * MS);
        assert_eq!(step(&costs, SMALL, 1), Some(20_000));
        assert_eq!(costs.predict(Phase::Decode, (SMALL, 1)), None);
    }

    #[test]
    fn an_average_follows_and_an_outlier_hardly_moves_it() {
        let mut costs = measured(&[(1, 10)]);
        costs.note(Phase::Step, (SMALL, 1), 10_000 * MS);
        assert_eq!(step(&costs, SMALL, 1), Some(16_000));
        for _ in 0..60 {
            costs.note(Phase::Step, (SMALL, 1), 30 * MS);
        }
        assert_eq!(step(&costs, SMALL, 1).map(|cost| cost / 100), Some(299));
    }

    #[test]
    fn rows_that_were_not_measured_are_reckoned_from_their_neighbours() {
        let costs = measured(&[(2, 10), (4, 16)]);
        assert_eq!(
            [1, 2, 3, 4, 8].map(|rows| step(&costs, SMALL, rows).unwrap()),
            [10_000, 10_000, 13_000, 16_000, 32_000]
        );
    }

    #[test]
    fn a_size_that_was_not_measured_is_reckoned_from_the_nearest_by_area() {
        let costs = measured(&[(1, 10)]);
        assert_eq!(step(&costs, (128, 64), 1), Some(20_000));
        assert_eq!(step(&costs, (128, 128), 2), Some(80_000));
    }

    #[test]
    fn as_many_rows_fit_as_their_call_allows() {
        let costs = measured(&[(1, 10), (2, 14), (4, 22)]);
        assert_eq!(
            [5, 10, 13, 14, 21, 22].map(|ms| costs.fitting(Phase::Step, (SMALL, 4), ms * MS)),
            [0, 1, 1, 2, 3, 4]
        );
        assert_eq!(costs.fitting(Phase::Encode, (SMALL, 4), MS), 4, "nothing is known of it");
    }

    #[test]
    fn the_sizes_that_were_not_used_for_longest_are_forgotten() {
        let mut costs = measured(&[(1, 10)]);
        for side in 1..=SIZES as u32 {
            costs.note(Phase::Step, ((128 * side, 64), 1), MS);
        }
        assert_eq!(costs.known.len(), SIZES);
        assert!(!costs.known.contains_key(&(Phase::Step, SMALL)));
    }
}
