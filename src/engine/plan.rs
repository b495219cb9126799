//! Which jobs run next: a decision over plain values. The batcher carries it out.

use std::time::{Duration, Instant};

/// What the decision needs to know of a waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    /// Pictures.
    pub(super) rows: usize,
    /// When it came.
    pub(super) since: Instant,
    /// When it is too late to start.
    pub(super) start_by: Option<Instant>,
}

/// What a batch may hold, and how long it may wait to be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Rows of one batch. A job with more of them runs alone.
    pub(super) rows: usize,
    /// How long the oldest job waits for others.
    pub(super) linger: Duration,
}

/// Whether more jobs may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// They may.
    Open,
    /// None will: waiting for batch mates is vain.
    Closing,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing waits.
    Idle,
    /// Decide again at this time, or when another job has come.
    WaitUntil(Instant),
    /// Run these jobs together: indices, ascending.
    Run(Vec<usize>),
}

/// Indices of the jobs that it is too late to start, ascending.
pub(super) fn expired(waiting: &[Waiting], now: Instant) -> Vec<usize> {
    let late = |job: &Waiting| job.start_by.is_some_and(|start_by| start_by <= now);
    waiting.iter().enumerate().filter(|(_, job)| late(job)).map(|(index, _)| index).collect()
}

/// Decides over jobs in order of arrival, none of them expired.
///
/// The oldest job always runs next, with the jobs of its size that fit beside it. It lingers for more, unless its batch is
/// full or one of the batch would miss its deadline.
pub(super) fn decide(waiting: &[Waiting], limits: Limits, outlook: Outlook, now: Instant) -> Decision {
    let Some(oldest) = waiting.first() else { return Decision::Idle };
    let mut rows = 0;
    let mut batch = Vec::new();
    for (index, job) in waiting.iter().enumerate() {
        let fits = index == 0 || job.size == oldest.size && rows + job.rows <= limits.rows;
        if fits {
            rows += job.rows;
            batch.push(index);
        }
    }
    let until = oldest.since + limits.linger;
    let pressed = |index: &usize| waiting[*index].start_by.is_some_and(|start_by| start_by <= until);
    if rows >= limits.rows || outlook == Outlook::Closing || until <= now || batch.iter().any(pressed) {
        Decision::Run(batch)
    } else {
        Decision::WaitUntil(until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LIMITS: Limits = Limits { rows: 4, linger: Duration::from_millis(2) };

    fn job(size: u32, rows: usize, since: Instant) -> Waiting {
        Waiting { size: (size, size), rows, since, start_by: None }
    }

    #[test]
    fn nothing_waits_so_nothing_runs() {
        assert_eq!(decide(&[], LIMITS, Outlook::Open, Instant::now()), Decision::Idle);
    }

    #[test]
    fn a_lone_job_lingers_and_then_runs() {
        let now = Instant::now();
        let jobs = [job(64, 1, now)];
        assert_eq!(decide(&jobs, LIMITS, Outlook::Open, now), Decision::WaitUntil(now + 2 * MS));
        assert_eq!(decide(&jobs, LIMITS, Outlook::Open, now + 2 * MS), Decision::Run(vec![0]));
        assert_eq!(decide(&jobs, LIMITS, Outlook::Closing, now), Decision::Run(vec![0]));
    }

    #[test]
    fn a_full_batch_does_not_linger() {
        let now = Instant::now();
        let jobs = [job(64, 3, now), job(64, 1, now), job(64, 1, now)];
        assert_eq!(decide(&jobs, LIMITS, Outlook::Open, now), Decision::Run(vec![0, 1]));
    }

    #[test]
    fn sizes_do_not_mix_and_the_oldest_goes_first() {
        let now = Instant::now();
        let jobs = [job(64, 1, now), job(128, 1, now), job(64, 1, now)];
        assert_eq!(decide(&jobs, LIMITS, Outlook::Open, now + 2 * MS), Decision::Run(vec![0, 2]));
    }

    #[test]
    fn a_job_larger_than_a_batch_runs_alone() {
        let now = Instant::now();
        let jobs = [job(64, 9, now), job(64, 1, now)];
        assert_eq!(decide(&jobs, LIMITS, Outlook::Open, now), Decision::Run(vec![0]));
    }

    #[test]
    fn a_deadline_within_the_linger_starts_the_batch() {
        let now = Instant::now();
        let jobs = [job(64, 1, now), Waiting { start_by: Some(now + MS), ..job(64, 1, now) }];
        assert_eq!(decide(&jobs, LIMITS, Outlook::Open, now), Decision::Run(vec![0, 1]));
    }

    #[test]
    fn a_deadline_that_has_come_is_missed() {
        let now = Instant::now();
        let jobs = [job(64, 1, now), Waiting { start_by: Some(now), ..job(64, 1, now) }];
        assert_eq!(expired(&jobs, now), [1]);
        assert!(expired(&jobs, now - MS).is_empty());
    }

    proptest! {
        #[test]
        fn every_batch_has_the_oldest_one_size_and_room(
            shape in prop::collection::vec((1_u32..4, 1_usize..7), 1..20),
            rows in 1_usize..9,
        ) {
            let now = Instant::now();
            let jobs: Vec<Waiting> = shape.iter().map(|(size, rows)| job(64 * size, *rows, now)).collect();
            let limits = Limits { rows, linger: Duration::ZERO };
            let Decision::Run(batch) = decide(&jobs, limits, Outlook::Open, now) else { panic!("no linger") };
            prop_assert_eq!(batch[0], 0);
            prop_assert!(batch.is_sorted());
            prop_assert!(batch.iter().all(|index| jobs[*index].size == jobs[0].size));
            let total: usize = batch.iter().map(|index| jobs[*index].rows).sum();
            prop_assert!(total <= rows || batch.len() == 1);
        }
    }
}
