//! A device that exists in numbers only: carries decisions out on plain values and a clock of its own. Forecasts and
//! simulations run on it.

use std::time::{Duration, Instant};

use super::SafetyCheck;
use super::costs::{ANY_SIZE, Phase, Size};
use super::ledger::Ledger;
use super::plan::{Checking, Decision, Outlook, Running, Waiting};
use super::seen::Seen;

/// Whom a value on the desk belongs to.
pub(super) type Tag = usize;

/// What happened on the desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Nothing waits and nothing runs.
    Idle,
    /// Nothing runs until then.
    Rests(Instant),
    /// Rows of these began, and were encoded.
    Encoded(Vec<Tag>),
    /// Rows of these took a step.
    Stepped(Vec<Tag>),
    /// Rows of these were decoded, and want no check.
    Decoded(Vec<Tag>),
    /// Pictures of these were checked.
    Checked(Vec<Tag>),
}

/// A device in numbers.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    ledger: Ledger,
    now: Instant,
    waiting: Vec<(Waiting, Tag)>,
    running: Vec<(Running, Tag)>,
    checking: Vec<(Checking, Tag)>,
}

impl Desk {
    /// A desk where this waits and runs at `now`.
    pub(super) fn new(ledger: Ledger, now: Instant, running: Vec<(Running, Tag)>) -> Self {
        Self { ledger, now, waiting: Vec::new(), running, checking: Vec::new() }
    }

    /// The time on the desk.
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Nothing happens until `time`.
    pub(super) fn pass(&mut self, time: Instant) {
        self.now = self.now.max(time);
    }

    /// The turn that all have come to: where a job stands that comes now.
    pub(super) const fn turn(&self) -> u64 {
        self.ledger.turns.now()
    }

    /// Another job comes.
    pub(super) fn came(&mut self, job: Waiting, tag: Tag) {
        self.waiting.push((job, tag));
    }

    /// A picture waits for its check.
    pub(super) fn painted(&mut self, picture: Checking, tag: Tag) {
        self.checking.push((picture, tag));
    }

    /// Takes away the jobs of which no row has begun.
    pub(super) fn keep_begun(&mut self) {
        self.waiting.retain(|(job, _)| job.begun);
    }

    /// Decides and carries out one call.
    pub(super) fn advance(&mut self) -> Event {
        let now = self.now;
        self.waiting.retain(|(job, _)| job.start_by.is_none_or(|start_by| start_by > now));
        let seen = self.seen();
        let decision = seen.decide(&self.ledger, Outlook::Open, now);
        if matches!(decision, Decision::Step(_)) {
            self.pass_over(&seen.places(&self.ledger, now));
        }
        self.apply(decision)
    }

    /// Whether a row waits for a step.
    pub(super) fn is_stepping(&self) -> bool {
        self.running.iter().any(|(row, _)| row.steps_left > 0)
    }

    /// A UNet call begins without these jobs, which have a place.
    pub(super) fn pass_over(&mut self, jobs: &[usize]) {
        for (_, (job, _)) in self.waiting.iter_mut().enumerate().filter(|(index, _)| jobs.contains(index)) {
            job.placed += 1;
        }
    }

    /// What lies here, as the plan sees it.
    fn seen(&self) -> Seen {
        Seen {
            waiting: self.waiting.iter().map(|(job, _)| (0, *job)).collect(),
            running: self.running.iter().map(|(row, _)| *row).collect(),
            checking: self.checking.iter().map(|(picture, _)| *picture).collect(),
        }
    }

    /// Carries out a decision that was taken over what lies here.
    pub(super) fn apply(&mut self, decision: Decision) -> Event {
        match decision {
            Decision::Idle => Event::Idle,
            Decision::WaitUntil(time) => Event::Rests(time),
            Decision::Encode(jobs) => Event::Encoded(self.encode(&jobs)),
            Decision::Step(rows) => Event::Stepped(self.step(&rows)),
            Decision::Decode(rows) => Event::Decoded(self.decode(&rows)),
            Decision::Check(pictures) => Event::Checked(self.check(&pictures)),
        }
    }

    fn encode(&mut self, jobs: &[usize]) -> Vec<Tag> {
        let Some(first) = jobs.first() else { return Vec::new() };
        self.spend(Phase::Encode, (self.waiting[*first].0.size, jobs.len()));
        let mut tags = Vec::with_capacity(jobs.len());
        for index in jobs {
            let (job, tag) = &mut self.waiting[*index];
            self.ledger.turns.take(job.lane, job.turn, self.ledger.limits.rows);
            job.rows -= 1;
            job.begun = true;
            job.start_by = None;
            let timestep = u32::try_from(job.steps).unwrap_or(u32::MAX);
            let (size, safety) = (job.size, job.safety);
            self.running.push((Running { size, timestep, steps_left: job.steps, waited: 0, safety }, *tag));
            tags.push(*tag);
        }
        self.waiting.retain(|(job, _)| job.rows > 0);
        tags
    }

    fn step(&mut self, rows: &[usize]) -> Vec<Tag> {
        let Some(first) = rows.first() else { return Vec::new() };
        self.spend(Phase::Step, (self.running[*first].0.size, rows.len()));
        self.waiting.iter_mut().for_each(|(job, _)| job.waited += 1);
        self.checking.iter_mut().for_each(|(picture, _)| picture.waited += 1);
        let mut tags = Vec::with_capacity(rows.len());
        for (index, (row, tag)) in self.running.iter_mut().enumerate() {
            if rows.contains(&index) {
                row.steps_left = row.steps_left.saturating_sub(1);
                row.timestep = row.timestep.saturating_sub(1);
                row.waited = 0;
                tags.push(*tag);
            } else {
                row.waited += 1;
            }
        }
        tags
    }

    fn decode(&mut self, rows: &[usize]) -> Vec<Tag> {
        let Some(first) = rows.first() else { return Vec::new() };
        self.spend(Phase::Decode, (self.running[*first].0.size, rows.len()));
        let mut tags = Vec::with_capacity(rows.len());
        let mut index = 0;
        let checking = &mut self.checking;
        self.running.retain(|(row, tag)| {
            index += 1;
            let decoded = rows.contains(&(index - 1));
            match row.safety {
                _ if !decoded => {}
                SafetyCheck::Wanted => checking.push((Checking { waited: 0 }, *tag)),
                SafetyCheck::Skipped => tags.push(*tag),
            }
            !decoded
        });
        tags
    }

    fn check(&mut self, pictures: &[usize]) -> Vec<Tag> {
        self.spend(Phase::Check, (ANY_SIZE, pictures.len()));
        let mut tags = Vec::with_capacity(pictures.len());
        let mut index = 0;
        self.checking.retain(|(_, tag)| {
            index += 1;
            let checked = pictures.contains(&(index - 1));
            if checked {
                tags.push(*tag);
            }
            !checked
        });
        tags
    }

    fn spend(&mut self, phase: Phase, call: (Size, usize)) {
        let cost = self.ledger.costs.predict(phase, call).unwrap_or(Duration::ZERO);
        self.now += cost;
        self.ledger.sides.note(phase, cost);
    }

    /// Rows that wait or are under way.
    pub(super) fn rows(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(|(job, _)| job.rows).sum();
        waiting + self.running.len() + self.checking.len()
    }

    /// When a row of a job that comes now begins; `None` while costs are not known.
    ///
    /// Runs the desk forward by the very plan that the engine follows, as if nobody else came.
    pub(super) fn start_of(self, job: Waiting) -> Option<Instant> {
        self.look_ahead(job, Moment::Start)
    }

    /// When the last picture of a job that comes now is done; as [`Desk::start_of`].
    pub(super) fn finish_of(self, job: Waiting) -> Option<Instant> {
        self.look_ahead(job, Moment::Finish)
    }

    fn look_ahead(mut self, job: Waiting, moment: Moment) -> Option<Instant> {
        /// Calls that a forecast looks ahead.
        const CALLS: usize = 10_000;
        /// No other value has it.
        const NEWCOMER: Tag = usize::MAX;
        // Checks of unknown cost count nothing: most jobs want none, and a model may have none.
        let phases = [Phase::Encode, Phase::Step, Phase::Decode];
        phases.iter().try_for_each(|phase| self.ledger.costs.predict(*phase, (job.size, 1)).map(drop))?;
        self.came(Waiting { start_by: None, turn: self.turn(), ..job }, NEWCOMER);
        let mut left = job.rows;
        for _ in 0..CALLS {
            let before = self.now;
            match self.advance() {
                Event::Encoded(tags) if moment == Moment::Start && tags.contains(&NEWCOMER) => return Some(before),
                Event::Idle => return Some(before),
                Event::Rests(until) => self.pass(until),
                Event::Decoded(tags) | Event::Checked(tags) => {
                    left = left.saturating_sub(tags.iter().filter(|tag| **tag == NEWCOMER).count());
                    if left == 0 {
                        return Some(self.now);
                    }
                }
                Event::Encoded(_) | Event::Stepped(_) => {}
            }
        }
        Some(self.now)
    }
}

/// What a forecast looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Start,
    Finish,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::costs::Costs;
    use crate::engine::facts::Timesteps;
    use crate::engine::lane::{Lane, Order};
    use crate::engine::plan::Limits;

    const MS: Duration = Duration::from_millis(1);
    const SIZE: Size = (64, 64);

    fn limits() -> Limits {
        Limits { rows: 2, linger: Duration::ZERO, timesteps: Timesteps::PerRow }
    }

    /// A ledger of a device where a row costs 2 ms to encode, 10 a step, 4 to decode, and sharing saves nothing.
    fn ledger() -> Ledger {
        let mut costs = Costs::default();
        for (phase, ms) in [(Phase::Encode, 2), (Phase::Step, 10), (Phase::Decode, 4)] {
            (0..3).for_each(|_| costs.note(phase, (SIZE, 1), ms * MS));
        }
        Ledger { costs, ..Ledger::new(limits()) }
    }

    fn job(steps: usize, since: Instant) -> Waiting {
        let (lane, order) = (Lane::new(), Order::InTurn);
        let safety = SafetyCheck::Skipped;
        Waiting {
            lane,
            order,
            size: SIZE,
            rows: 1,
            steps,
            since,
            start_by: None,
            waited: 0,
            placed: 0,
            turn: 0,
            begun: false,
            safety,
        }
    }

    fn running(steps_left: usize) -> Running {
        Running { size: SIZE, timestep: 0, steps_left, waited: 0, safety: SafetyCheck::Skipped }
    }

    #[test]
    fn a_job_starts_at_once_where_there_is_a_place() {
        let now = Instant::now();
        assert_eq!(Desk::new(ledger(), now, Vec::new()).start_of(job(4, now)), Some(now));
    }

    #[test]
    fn a_job_is_done_when_its_last_picture_is() {
        let now = Instant::now();
        let done = |job| Desk::new(ledger(), now, Vec::new()).finish_of(job).map(|done| done - now);
        assert_eq!(done(job(2, now)), Some(26 * MS));
        assert_eq!(done(Waiting { rows: 2, ..job(2, now) }), Some(52 * MS), "sharing saves nothing here");
    }

    #[test]
    fn a_job_that_finds_no_place_starts_when_one_is_free() {
        let now = Instant::now();
        let row = |steps_left| (running(steps_left), 0);
        let desk = Desk::new(ledger(), now, vec![row(1), row(3)]);
        // A step of both, the decoding of the first, the encoding of the newcomer.
        assert_eq!(desk.start_of(job(4, now)), Some(now + 24 * MS));
    }

    #[test]
    fn those_before_it_are_reckoned_in_and_those_that_will_be_too_late_are_not() {
        let now = Instant::now();
        let row = |steps_left| (running(steps_left), 0);
        let mut desk = Desk::new(ledger(), now, vec![row(1), row(1)]);
        for _ in 0..3 {
            desk.came(job(1, now), 1);
        }
        let mut patient = desk.clone();
        patient.came(job(1, now), 1);
        desk.came(Waiting { start_by: Some(now + MS), ..job(1, now) }, 1);
        let (with, without) = (patient.start_of(job(1, now)).unwrap(), desk.start_of(job(1, now)).unwrap());
        assert!(without < with, "{:?} {:?}", without - now, with - now);
    }

    #[test]
    fn checks_are_reckoned_in_once_their_cost_is_known() {
        let now = Instant::now();
        let start = |ledger: Ledger| {
            let row = |steps_left| (Running { safety: SafetyCheck::Wanted, ..running(steps_left) }, 0);
            Desk::new(ledger, now, vec![row(1), row(3)]).start_of(job(4, now))
        };
        assert_eq!(start(ledger()), Some(now + 24 * MS));
        let mut known = ledger();
        (0..3).for_each(|_| known.costs.note(Phase::Check, (ANY_SIZE, 1), 5 * MS));
        // Beside the decoding and the check there is no time for it before the next step, which takes 10 ms.
        assert_eq!(start(known), Some(now + 39 * MS));
    }

    #[test]
    fn a_picture_that_wants_a_check_is_done_after_it() {
        let now = Instant::now();
        let row = |safety, tag| (Running { safety, ..running(0) }, tag);
        let mut desk = Desk::new(ledger(), now, vec![row(SafetyCheck::Wanted, 1), row(SafetyCheck::Skipped, 2)]);
        assert_eq!(desk.advance(), Event::Decoded(vec![2]));
        assert_eq!(desk.advance(), Event::Checked(vec![1]));
        assert_eq!(desk.advance(), Event::Idle);
    }

    #[test]
    fn nothing_is_forecast_before_costs_are_known() {
        let now = Instant::now();
        assert_eq!(Desk::new(Ledger::new(limits()), now, Vec::new()).start_of(job(4, now)), None);
    }
}
