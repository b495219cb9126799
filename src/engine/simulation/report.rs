//! What a simulation counted.

use std::time::{Duration, Instant};

/// What painters got.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Pictures of all painters together.
    pub pictures: usize,
    /// Pictures of all painters together in a second.
    pub pictures_per_s: f64,
    /// From a stroke to its picture: the median.
    pub median: Duration,
    /// From a stroke to its picture: the 95th percentile.
    pub p95: Duration,
    /// Rows of a UNet call, on average.
    pub rows_per_call: f64,
    /// UNet calls that began between a stroke and its first call, at most.
    pub longest_wait: u64,
    /// How long rows that had a step to take waited between two UNet calls, at most; nothing where requests run whole.
    pub longest_stall: Duration,
    /// Pictures of the painter with the fewest, as a share of the mean.
    pub fewest: f64,
    /// Pictures of the painter with the most, as a share of the mean.
    pub most: f64,
}

/// A stroke on its way.
#[derive(Clone)]
struct Stroke {
    at: Instant,
    calls: u64,
}

/// What is counted while painters paint.
pub(super) struct Tally {
    /// The stroke of each painter that is on its way.
    strokes: Vec<Option<Stroke>>,
    pictures: Vec<usize>,
    times: Vec<Duration>,
    calls: u64,
    rows: usize,
    longest_wait: u64,
    stall: Duration,
    longest_stall: Duration,
}

impl Tally {
    pub(super) fn new(painters: usize) -> Self {
        let (strokes, pictures) = (vec![None; painters], vec![0; painters]);
        let (stall, longest_stall) = (Duration::ZERO, Duration::ZERO);
        Self { strokes, pictures, times: Vec::new(), calls: 0, rows: 0, longest_wait: 0, stall, longest_stall }
    }

    pub(super) fn came(&mut self, painter: usize, at: Instant) {
        self.strokes[painter] = Some(Stroke { at, calls: self.calls });
    }

    pub(super) fn began(&mut self, painter: usize) {
        let Some(stroke) = &self.strokes[painter] else { return };
        self.longest_wait = self.longest_wait.max(self.calls - stroke.calls);
    }

    pub(super) const fn stepped(&mut self, rows: usize) {
        self.calls += 1;
        self.rows += rows;
    }

    /// Rows that had a step to take waited for something else.
    pub(super) fn stood_still(&mut self, time: Duration) {
        self.stall += time;
        self.longest_stall = self.longest_stall.max(self.stall);
    }

    /// The next UNet call begins.
    pub(super) const fn went_on(&mut self) {
        self.stall = Duration::ZERO;
    }

    pub(super) fn done(&mut self, painter: usize, now: Instant) {
        if let Some(stroke) = self.strokes[painter].take() {
            self.pictures[painter] += 1;
            self.times.push(now - stroke.at);
        }
    }

    pub(super) fn report(mut self, span: Duration) -> Report {
        self.times.sort_unstable();
        let pictures = self.times.len();
        let quantile = |share: f64| {
            let place = (share * pictures.saturating_sub(1) as f64).round() as usize;
            self.times.get(place).copied().unwrap_or_default()
        };
        let mean = pictures as f64 / self.pictures.len().max(1) as f64;
        let share = |count: Option<usize>| count.unwrap_or(0) as f64 / mean;
        Report {
            pictures,
            pictures_per_s: pictures as f64 / span.as_secs_f64(),
            median: quantile(0.5),
            p95: quantile(0.95),
            rows_per_call: self.rows as f64 / self.calls.max(1) as f64,
            longest_wait: self.longest_wait,
            longest_stall: self.longest_stall,
            fewest: share(self.pictures.iter().copied().min()),
            most: share(self.pictures.iter().copied().max()),
        }
    }
}
