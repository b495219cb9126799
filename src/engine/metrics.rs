//! What the engine counts.

use std::fmt::Write as _;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::costs::Phase as Call;
use super::{EngineError, Timings};

/// From a small model's step to a large one on a slow processor, in seconds.
const PHASE_BUCKETS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];
const ROW_BUCKETS: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0];
/// A newcomer that finds a place waits for one at most.
const WAIT_BUCKETS: [f64; 8] = [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// What the engine counts. Clones share the numbers.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    waiting: Gauge,
    jobs: Family<OutcomeLabels, Counter>,
    phases: Family<PhaseLabels, Histogram>,
    rows: Histogram,
    encoded: Histogram,
    decoded: Histogram,
    checked: Histogram,
    verdicts: Family<VerdictLabels, Counter>,
    waits: Histogram,
    again: Counter,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has its pictures.
    Done,
    /// Its ticket was dropped.
    Cancelled,
    /// It did not start in time.
    TimedOut,
    /// There was no room.
    Full,
    /// It would not have started in time.
    TooLate,
    /// A newer one took its place.
    Superseded,
    /// The model cannot run it.
    Unfit,
    /// There was no engine for it: loading, closed or failed.
    Unavailable,
    /// The device failed.
    Failed,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Done => "done",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Full => "full",
            Self::TooLate => "too_late",
            Self::Superseded => "superseded",
            Self::Unfit => "unfit",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        })
    }
}

impl From<&EngineError> for Outcome {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::Full { .. } => Self::Full,
            EngineError::StartTimeout => Self::TimedOut,
            EngineError::TooLate { .. } => Self::TooLate,
            EngineError::Superseded => Self::Superseded,
            EngineError::Unfit { .. } => Self::Unfit,
            EngineError::Closed | EngineError::Loading | EngineError::Failed { .. } => Self::Unavailable,
            EngineError::Backend { .. } => Self::Failed,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Outcome,
}

/// What the safety checker says of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may be shown.
    Clean,
    /// It is shown black.
    Flagged,
}

impl EncodeLabelValue for Verdict {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Clean => "clean",
            Self::Flagged => "flagged",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Queued,
    Encode,
    Steps,
    Decode,
    Check,
}

impl EncodeLabelValue for Phase {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Queued => "queued",
            Self::Encode => "encode",
            Self::Steps => "steps",
            Self::Decode => "decode",
            Self::Check => "check",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: Phase,
}

impl EngineMetrics {
    /// Numbers that nobody scrapes.
    #[must_use]
    pub fn unregistered() -> Self {
        Self {
            waiting: Gauge::default(),
            jobs: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(PHASE_BUCKETS)),
            rows: Histogram::new(ROW_BUCKETS),
            encoded: Histogram::new(ROW_BUCKETS),
            decoded: Histogram::new(ROW_BUCKETS),
            checked: Histogram::new(ROW_BUCKETS),
            verdicts: Family::default(),
            waits: Histogram::new(WAIT_BUCKETS),
            again: Counter::default(),
        }
    }

    /// Numbers that appear in `registry` as `falgate_engine_*`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        let registry = registry.sub_registry_with_prefix("falgate_engine");
        registry.register(
            "jobs_again",
            "Jobs that went to another device because theirs failed",
            metrics.again.clone(),
        );
        registry.register("queue_jobs", "Jobs that wait for the device", metrics.waiting.clone());
        registry.register("jobs", "Jobs by how they ended", metrics.jobs.clone());
        registry.register_with_unit(
            "phase",
            "Time that a finished job spent in each phase",
            Unit::Seconds,
            metrics.phases.clone(),
        );
        registry.register("call_rows", "Rows that share a call of the UNet", metrics.rows.clone());
        registry.register("encode_rows", "Rows that share a call of the encoder", metrics.encoded.clone());
        registry.register("decode_rows", "Rows that share a call of the decoder", metrics.decoded.clone());
        registry.register("check_rows", "Rows that share a call of the safety checker", metrics.checked.clone());
        registry.register("checked_pictures", "Pictures that the safety checker has seen", metrics.verdicts.clone());
        registry.register(
            "wait_steps",
            "Calls of the UNet that began between a job and its first row",
            metrics.waits.clone(),
        );
        metrics
    }

    /// Jobs that ended so far with `outcome`.
    #[must_use]
    pub fn jobs(&self, outcome: Outcome) -> u64 {
        self.jobs.get_or_create(&OutcomeLabels { outcome }).get()
    }

    /// Jobs that wait.
    #[must_use]
    pub fn waiting(&self) -> i64 {
        self.waiting.get()
    }

    /// Pictures of which the safety checker said so.
    #[must_use]
    pub fn checked(&self, verdict: Verdict) -> u64 {
        self.verdicts.get_or_create(&VerdictLabels { verdict }).get()
    }

    pub(super) fn judged(&self, flags: &[bool]) {
        for flag in flags {
            let verdict = if *flag { Verdict::Flagged } else { Verdict::Clean };
            self.verdicts.get_or_create(&VerdictLabels { verdict }).inc();
        }
    }

    pub(super) fn more_wait(&self, jobs: i64) {
        self.waiting.inc_by(jobs);
    }

    /// A job whose device failed goes to another one.
    pub(super) fn ran_again(&self) {
        self.again.inc();
    }

    /// Jobs that went to another device because theirs failed.
    #[must_use]
    pub fn jobs_again(&self) -> u64 {
        self.again.get()
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        self.jobs.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(super) fn called(&self, phase: Call, rows: usize) {
        let histogram = match phase {
            Call::Encode => &self.encoded,
            Call::Step => &self.rows,
            Call::Decode => &self.decoded,
            Call::Check => &self.checked,
        };
        histogram.observe(rows as f64);
    }

    pub(super) fn waited(&self, steps: u64) {
        self.waits.observe(steps as f64);
    }

    pub(super) fn finished(&self, timings: &Timings) {
        let observe = |phase, time: Duration| {
            self.phases.get_or_create(&PhaseLabels { phase }).observe(time.as_secs_f64());
        };
        observe(Phase::Queued, timings.queued);
        observe(Phase::Encode, timings.encode);
        observe(Phase::Steps, timings.steps);
        observe(Phase::Decode, timings.decode);
        if !timings.check.is_zero() {
            observe(Phase::Check, timings.check);
        }
    }
}
