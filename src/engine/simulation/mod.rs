//! Painters in front of a device that exists in numbers only: what a policy of batching is worth, before it is built and on a
//! device that is not at hand.
//!
//! Every painter draws a stroke, waits for its picture, pauses, and draws the next one. The seed decides the pauses, so that
//! the same simulation gives the same report, to the last digit.
//!
//! ```
//! use std::time::Duration;
//! use falgate::engine::simulation::{Crowd, Device, Policy, simulate};
//! use falgate::engine::{Costs, Phase};
//!
//! let mut costs = Costs::default();
//! for (phase, ms) in [(Phase::Encode, 1), (Phase::Step, 4), (Phase::Decode, 1)] {
//!     // A cost is believed after three calls.
//!     (0..3).for_each(|_| costs.note(phase, ((512, 512), 1), Duration::from_millis(ms)));
//! }
//! let device = Device { costs, rows: 8, size: (512, 512) };
//! let crowd = Crowd { painters: 8, ..Crowd::default() };
//! let report = simulate(&crowd, &device, Policy::Steps);
//! assert!(report.longest_wait <= 1);
//! ```

mod report;
mod whole;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::desk::{Desk, Event};
use super::ledger::Ledger;
use super::plan::{Limits, Waiting};
use super::{Costs, Lane, Order, SafetyCheck, Size, Timesteps};

pub use report::Report;
use report::Tally;
use whole::Whole;

/// How people share the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// One request after the other, each alone.
    OneByOne,
    /// Those that wait when a batch ends run together, from encode to decode.
    WholeRequests,
    /// Rows join and leave between any two calls, as the engine works.
    Steps,
}

/// A device that exists in numbers.
#[derive(Debug, Clone)]
pub struct Device {
    /// What its calls cost; phases that were not measured cost nothing.
    pub costs: Costs,
    /// Rows that share a call.
    pub rows: usize,
    /// Width and height of all pictures, in pixels.
    pub size: Size,
}

/// People who paint.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// How many.
    pub painters: usize,
    /// UNet evaluations of a picture, for the first painter, the second, and so on, over again.
    pub steps: Vec<usize>,
    /// The longest pause between a picture and the next stroke; each is a random share of it.
    pub pause: Duration,
    /// How long they paint.
    pub span: Duration,
    /// Decides the pauses.
    pub seed: u64,
}

impl Default for Crowd {
    /// One painter, who paints with four steps for a minute and hardly rests.
    fn default() -> Self {
        let (pause, span) = (Duration::from_millis(30), Duration::from_secs(60));
        Self { painters: 1, steps: vec![4], pause, span, seed: 1 }
    }
}

/// Runs a crowd on a device.
#[must_use]
pub fn simulate(crowd: &Crowd, device: &Device, policy: Policy) -> Report {
    let begin = Instant::now();
    let end = begin + crowd.span;
    let mut random = Random(crowd.seed);
    let mut pause = || crowd.pause.mul_f64(random.share());
    let mut strokes: BinaryHeap<Reverse<(Instant, usize)>> =
        (0..crowd.painters).map(|painter| Reverse((begin + pause(), painter))).collect();
    let mut tally = Tally::new(crowd.painters);
    let mut table = Table::new(device, policy, begin);
    loop {
        let now = table.now();
        while let Some(Reverse((at, painter))) = strokes.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            strokes.pop();
            tally.came(painter, at);
            let stroke = waiting(crowd, device, (at, painter));
            table.came(Waiting { turn: table.turn(), ..stroke }, painter);
        }
        let (before, held_up) = (table.now(), table.is_stepping());
        let event = table.advance();
        match (&event, held_up) {
            (Event::Stepped(_), _) => tally.went_on(),
            (_, true) => tally.stood_still(table.now() - before),
            _ => {}
        }
        match event {
            Event::Idle => match strokes.peek() {
                Some(Reverse((next, _))) => table.pass(*next),
                None => break,
            },
            Event::Rests(until) => table.pass(until),
            Event::Encoded(painters) => painters.into_iter().for_each(|painter| tally.began(painter)),
            Event::Stepped(rows) => tally.stepped(rows.len()),
            Event::Decoded(painters) | Event::Checked(painters) => {
                for painter in painters {
                    if table.now() <= end {
                        tally.done(painter, table.now());
                        strokes.push(Reverse((table.now() + pause(), painter)));
                    }
                }
            }
        }
    }
    tally.report(crowd.span)
}

/// A painter's stroke as the plan sees it.
fn waiting(crowd: &Crowd, device: &Device, (since, painter): (Instant, usize)) -> Waiting {
    Waiting {
        lane: Lane::of(&painter),
        order: Order::NewestFirst,
        size: device.size,
        rows: 1,
        steps: crowd.steps.get(painter % crowd.steps.len().max(1)).copied().unwrap_or(1).max(1),
        since,
        start_by: None,
        waited: 0,
        placed: 0,
        turn: 0,
        begun: false,
        safety: SafetyCheck::Skipped,
    }
}

/// Where the strokes are worked off.
enum Table {
    Desk(Box<Desk>),
    Whole(Whole),
}

impl Table {
    fn new(device: &Device, policy: Policy, now: Instant) -> Self {
        let whole = |rows| Self::Whole(Whole::new(device.costs.clone(), rows, now));
        match policy {
            Policy::OneByOne => whole(1),
            Policy::WholeRequests => whole(device.rows),
            Policy::Steps => {
                let limits = Limits { rows: device.rows, linger: Duration::ZERO, timesteps: Timesteps::PerRow };
                let ledger = Ledger { costs: device.costs.clone(), ..Ledger::new(limits) };
                Self::Desk(Box::new(Desk::new(ledger, now, Vec::new())))
            }
        }
    }

    fn now(&self) -> Instant {
        match self {
            Self::Desk(desk) => desk.now(),
            Self::Whole(whole) => whole.now(),
        }
    }

    /// The turn that all have come to, where there are turns.
    const fn turn(&self) -> u64 {
        match self {
            Self::Desk(desk) => desk.turn(),
            Self::Whole(_) => 0,
        }
    }

    fn pass(&mut self, time: Instant) {
        match self {
            Self::Desk(desk) => desk.pass(time),
            Self::Whole(whole) => whole.pass(time),
        }
    }

    fn came(&mut self, job: Waiting, painter: usize) {
        match self {
            Self::Desk(desk) => desk.came(job, painter),
            Self::Whole(whole) => whole.came(job, painter),
        }
    }

    /// Whether a row waits for a step that others could join.
    fn is_stepping(&self) -> bool {
        matches!(self, Self::Desk(desk) if desk.is_stepping())
    }

    fn advance(&mut self) -> Event {
        match self {
            Self::Desk(desk) => desk.advance(),
            Self::Whole(whole) => whole.advance(),
        }
    }
}

/// Steele, Lea and Flood's SplitMix64: enough for pauses.
struct Random(u64);

impl Random {
    /// A number in `0..1`.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
