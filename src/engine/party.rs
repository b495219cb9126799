//! The jobs of one batch while they run: whose row is whose, and who already has what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Answer, Queued};
use super::recipe::Recipe;
use super::row::Row;
use super::{BackendError, Done, EngineError, ModelFacts, Picture, TextRow, Timings};

/// A phase of the work, whose time is written down.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    Encode,
    Steps,
    Decode,
}

/// The jobs that run together.
pub(super) struct Party {
    guests: Vec<Guest>,
}

/// A job of the batch. Without an answer it is over.
struct Guest {
    recipe: Recipe,
    answer: Option<Answer>,
    pictures: Vec<Option<Picture>>,
    timings: Timings,
}

/// A row, and the job and place among the job's pictures that it is for.
pub(super) struct Owned {
    guest: usize,
    place: usize,
    pub(super) row: Row,
}

impl Party {
    /// Seats the jobs of a batch that starts now.
    pub(super) fn new(batch: Vec<Queued>, now: Instant) -> Self {
        let seat = |queued: Queued| Guest {
            timings: Timings { queued: now.saturating_duration_since(queued.since), ..Timings::default() },
            pictures: vec![None; queued.recipe.seeds.len()],
            recipe: queued.recipe,
            answer: Some(queued.answer),
        };
        Self { guests: batch.into_iter().map(seat).collect() }
    }

    /// The prompts, one a job.
    pub(super) fn prompts(&self) -> Vec<&str> {
        self.guests.iter().map(|guest| guest.recipe.prompt.as_str()).collect()
    }

    /// Makes the rows, one a seed, from one embedding a job.
    pub(super) fn rows(&self, texts: &[TextRow], facts: &ModelFacts) -> Vec<Owned> {
        let mut rows = Vec::new();
        for (index, (guest, text)) in self.guests.iter().zip(texts).enumerate() {
            for (place, seed) in guest.recipe.seeds.iter().enumerate() {
                rows.push(Owned { guest: index, place, row: Row::new(&guest.recipe, *seed, text.clone(), facts) });
            }
        }
        rows
    }

    /// Whether somebody waits for this row. A job whose ticket was dropped is over from here on.
    pub(super) fn wants(&mut self, owned: &Owned) -> bool {
        let guest = &mut self.guests[owned.guest];
        if let Some(answer) = guest.answer.take_if(|answer| answer.is_unwanted()) {
            answer.drop_unwanted();
        }
        guest.answer.is_some()
    }

    /// Writes time down for the jobs that own `rows`, once each.
    pub(super) fn spent(&mut self, rows: &[Owned], phase: Phase, time: Duration) {
        for (index, guest) in self.guests.iter_mut().enumerate() {
            if rows.iter().any(|owned| owned.guest == index) {
                guest.timings.add(phase, time);
            }
        }
    }

    /// Takes a finished picture; the last one of a job answers it.
    pub(super) fn finish(&mut self, owned: &Owned, picture: Picture) {
        let guest = &mut self.guests[owned.guest];
        guest.pictures[owned.place] = Some(picture);
        if guest.pictures.iter().all(Option::is_some)
            && let Some(answer) = guest.answer.take()
        {
            let pictures = std::mem::take(&mut guest.pictures).into_iter().flatten().collect();
            answer.give(Ok(Done { pictures, timings: guest.timings }));
        }
    }

    /// Fails the jobs that own `rows`.
    pub(super) fn fail(&mut self, rows: &[Owned], cause: &Arc<BackendError>) {
        for owned in rows {
            self.guests[owned.guest].fail(rows.len(), cause);
        }
    }

    /// Fails every job that is not over.
    pub(super) fn fail_all(&mut self, cause: &Arc<BackendError>) {
        let rows = self.guests.iter().map(|guest| guest.recipe.seeds.len()).sum();
        for guest in &mut self.guests {
            guest.fail(rows, cause);
        }
    }
}

impl Guest {
    fn fail(&mut self, rows: usize, cause: &Arc<BackendError>) {
        if let Some(answer) = self.answer.take() {
            answer.give(Err(EngineError::Backend { rows, cause: Arc::clone(cause) }));
        }
    }
}

impl Timings {
    fn add(&mut self, phase: Phase, time: Duration) {
        *match phase {
            Phase::Encode => &mut self.encode,
            Phase::Steps => &mut self.steps,
            Phase::Decode => &mut self.decode,
        } += time;
    }
}
