//! The engine's thread: opens the model, then runs batch after batch until the door is shut.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::party::{Owned, Party, Phase};
use super::pipeline::{Pipeline, panic_message};
use super::plan::Limits;
use super::queue::{Model, Queued, Shared};
use super::row::Row;
use super::{BackendError, EngineSettings, EngineState, LoadProgress, OpenError, Opened, PartProgress, Picture};

/// The body of the engine's thread.
pub(super) fn serve<F>(shared: &Arc<Shared>, settings: &EngineSettings, open: F)
where
    F: FnOnce(&LoadProgress) -> Result<Opened, OpenError>,
{
    let served = catch_unwind(AssertUnwindSafe(|| {
        let mut batcher = Batcher::open(shared, settings, open)?;
        batcher.run()
    }));
    let ended = served.unwrap_or_else(|payload| Err(OpenError::Panicked { what: panic_message(payload.as_ref()) }));
    match ended {
        Ok(()) | Err(OpenError::CalledOff) => {
            tracing::info!("engine stopped");
            shared.state().send_replace(EngineState::Stopped);
        }
        Err(cause) => {
            tracing::error!(error = &cause as &dyn std::error::Error, "engine has no model to serve with");
            shared.fail(cause);
        }
    }
}

struct Batcher<'a> {
    shared: &'a Shared,
    pipeline: Pipeline,
    limits: Limits,
    warm_up_px: u32,
}

impl<'a> Batcher<'a> {
    /// Opens the model and warms it up; then the door opens.
    fn open<F>(shared: &'a Arc<Shared>, settings: &EngineSettings, open: F) -> Result<Self, OpenError>
    where
        F: FnOnce(&LoadProgress) -> Result<Opened, OpenError>,
    {
        let ear = Arc::clone(shared);
        let progress = LoadProgress::new(move |progress| hear(&ear, progress));
        let begun = Instant::now();
        let opened = open(&progress)?;
        let mut pipeline =
            Pipeline::new(opened, settings.prompt_cache).map_err(|cause| OpenError::Schedule { cause })?;
        progress.begin("warm-up", 0);
        let warming = Instant::now();
        let warm_up_px = settings.warm_up_px.get();
        pipeline.warm_up(warm_up_px).map_err(|cause| OpenError::WarmUp { cause })?;
        progress.done("warm-up", 0, warming.elapsed());
        let facts = Arc::clone(pipeline.facts());
        let limits = Limits {
            rows: settings.max_batch.get().min(facts.max_batch).max(1),
            linger: Duration::from_millis(settings.linger_ms),
        };
        tracing::info!(
            model = facts.name,
            device = facts.device,
            max_batch = limits.rows,
            took_ms = begun.elapsed().as_millis() as u64,
            "engine ready"
        );
        shared.open(Model { facts, schedule: pipeline.schedule().clone() });
        Ok(Self { shared, pipeline, limits, warm_up_px })
    }

    fn run(&mut self) -> Result<(), OpenError> {
        while let Some(batch) = self.shared.next_batch(self.limits) {
            self.run_batch(batch);
            if self.pipeline.is_suspect() {
                self.pipeline.warm_up(self.warm_up_px).map_err(|cause| OpenError::Lost { cause })?;
                tracing::warn!("backend passed a warm-up after its panic and serves again");
            }
        }
        Ok(())
    }

    /// Runs jobs of one size in lockstep. A job that fails or is cancelled leaves; the others go on.
    fn run_batch(&mut self, batch: Vec<Queued>) {
        let begun = Instant::now();
        let mut party = Party::new(batch, begun);
        let texts = match self.pipeline.embed(&party.prompts()) {
            Ok(texts) => texts,
            Err(error) => return party.fail_all(&told(error)),
        };
        let mut rows = party.rows(&texts, self.pipeline.facts());
        party.spent(&rows, Phase::Encode, begun.elapsed());
        rows = self.in_calls(&mut party, rows, Self::encode);
        while !rows.is_empty() {
            self.shared.sweep();
            rows = self.in_calls(&mut party, rows, Self::step);
        }
    }

    /// Splits rows into calls of as many as the device takes, and gives back those with work left.
    fn in_calls(
        &mut self,
        party: &mut Party,
        rows: Vec<Owned>,
        call: fn(&mut Self, &mut Party, Vec<Owned>) -> Vec<Owned>,
    ) -> Vec<Owned> {
        let mut left = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let chunk: Vec<Owned> = rows.by_ref().filter(|owned| party.wants(owned)).take(self.limits.rows).collect();
            if !chunk.is_empty() {
                left.extend(call(self, party, chunk));
            }
        }
        left
    }

    fn encode(&mut self, party: &mut Party, mut rows: Vec<Owned>) -> Vec<Owned> {
        let begun = Instant::now();
        let encoded = self.pipeline.encode(&mut borrow_mut(&mut rows));
        party.spent(&rows, Phase::Encode, begun.elapsed());
        match encoded {
            Ok(()) => rows,
            Err(error) => self.fail(party, &rows, error),
        }
    }

    /// Steps rows, and decodes those that are finished with it.
    fn step(&mut self, party: &mut Party, mut rows: Vec<Owned>) -> Vec<Owned> {
        let begun = Instant::now();
        let stepped = self.pipeline.step(&mut borrow_mut(&mut rows));
        self.shared.metrics().stepped(rows.len());
        party.spent(&rows, Phase::Steps, begun.elapsed());
        if let Err(error) = stepped {
            return self.fail(party, &rows, error);
        }
        let (mut finished, left): (Vec<_>, Vec<_>) = rows.into_iter().partition(|owned| owned.row.finished().is_some());
        finished.retain(|owned| party.wants(owned));
        if !finished.is_empty() {
            self.decode(party, &finished);
        }
        left
    }

    fn decode(&mut self, party: &mut Party, rows: &[Owned]) {
        let begun = Instant::now();
        let decoded = self.pipeline.decode(&borrow(rows));
        party.spent(rows, Phase::Decode, begun.elapsed());
        match decoded {
            Ok(pictures) => finish(party, rows, pictures),
            // One overflow must not take the neighbours' pictures: alone, each row shows whether it is the one.
            Err(BackendError::NotFinite { .. }) if rows.len() > 1 => {
                for row in rows.chunks(1) {
                    self.decode(party, row);
                }
            }
            Err(error) => {
                self.fail(party, rows, error);
            }
        }
    }

    /// Fails the jobs of a call, or the whole batch after a panic. No row is left.
    fn fail(&mut self, party: &mut Party, rows: &[Owned], error: BackendError) -> Vec<Owned> {
        let cause = told(error);
        party.fail(rows, &cause);
        if self.pipeline.is_suspect() {
            party.fail_all(&cause);
        }
        Vec::new()
    }
}

/// Passes a report on to the log and to those who watch the state.
fn hear(shared: &Shared, progress: PartProgress) {
    let (part, bytes) = (&*progress.part, progress.bytes);
    match progress.took {
        None => tracing::info!(part, bytes, "opening"),
        Some(took) => tracing::info!(part, bytes, took_ms = took.as_millis() as u64, "opened"),
    }
    shared.state().send_replace(EngineState::Loading { progress: Some(progress) });
}

/// Logs a failure of the backend, which from here on is shared.
fn told(error: BackendError) -> Arc<BackendError> {
    tracing::error!(error = &error as &dyn std::error::Error, "backend failed");
    Arc::new(error)
}

fn finish(party: &mut Party, rows: &[Owned], pictures: Vec<Picture>) {
    for (owned, picture) in rows.iter().zip(pictures) {
        party.finish(owned, picture);
    }
}

fn borrow(rows: &[Owned]) -> Vec<&Row> {
    rows.iter().map(|owned| &owned.row).collect()
}

fn borrow_mut(rows: &mut [Owned]) -> Vec<&mut Row> {
    rows.iter_mut().map(|owned| &mut owned.row).collect()
}
