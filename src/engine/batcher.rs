//! The engine's thread: opens the model, then makes one call of the device after the other until the door is shut. Rows of
//! different people join and leave between any two calls.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::costs::{ANY_SIZE, Phase, Size};
use super::floor::{Floor, Standing};
use super::ledger::Ledger;
use super::pipeline::{Pipeline, panic_message};
use super::plan::Limits;
use super::queue::{Model, Shared, Work};
use super::queued::Queued;
use super::row::Row;
use super::{BackendError, EngineError, EngineSettings, EngineState, LoadProgress, OpenError, Opened, PartProgress};

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
            shared.set_state(EngineState::Stopped);
        }
        Err(cause) => {
            tracing::error!(error = &cause as &dyn std::error::Error, "a device has no model to serve with");
            shared.fail(cause);
        }
    }
}

struct Batcher<'a> {
    shared: &'a Shared,
    pipeline: Pipeline,
    floor: Floor,
    ledger: Ledger,
    warm_up_px: u32,
    /// Jobs of calls that failed, which are told once it is known whether the device serves on.
    fallen: Vec<Fallen>,
}

/// Jobs of a call that failed, how many rows it had, and why.
struct Fallen {
    jobs: Vec<Queued>,
    rows: usize,
    cause: Arc<BackendError>,
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
            timesteps: facts.timesteps,
        };
        tracing::info!(
            model = facts.name,
            device = facts.device,
            safety_checker = facts.safety_checker,
            max_batch = limits.rows,
            took_ms = begun.elapsed().as_millis() as u64,
            "engine ready"
        );
        shared.open(Model { facts, schedule: pipeline.schedule().clone() });
        Ok(Self {
            shared,
            pipeline,
            floor: Floor::default(),
            ledger: Ledger::new(limits),
            warm_up_px,
            fallen: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<(), OpenError> {
        while let Some(work) = self.shared.next_work(&mut self.floor, &mut self.ledger) {
            match work {
                Work::Encode { jobs, rows } => self.encode(jobs, &rows),
                Work::Step(rows) => self.step(&rows),
                Work::Decode(rows) => self.decode(&rows),
                Work::Check(pictures) => self.check(&pictures),
            }
            if !self.pipeline.is_sound() {
                let recovered = self.recover();
                std::mem::take(&mut self.fallen).into_iter().for_each(|fallen| self.tell(fallen));
                recovered?;
            }
        }
        Ok(())
    }

    /// Finds out whether a failure was the call's or the device's.
    fn recover(&mut self) -> Result<(), OpenError> {
        match self.pipeline.warm_up(self.warm_up_px) {
            Ok(()) => {
                tracing::warn!("device passed a warm-up after its failure and serves on");
                Ok(())
            }
            // Memory may come back, and each call that lacks it says so.
            Err(BackendError::OutOfMemory) if !self.pipeline.is_suspect() => {
                self.pipeline.trust_again();
                tracing::warn!("device has no memory for a warm-up after its failure, and serves on");
                Ok(())
            }
            Err(cause) => {
                self.shared.put_back(self.floor.give_up_all());
                Err(OpenError::Lost { cause })
            }
        }
    }

    /// Begins rows: takes the jobs that are new to the floor and encodes the next row of each job in `rows`.
    fn encode(&mut self, jobs: Vec<Queued>, rows: &[u64]) {
        self.seat(jobs);
        if self.pipeline.is_suspect() {
            return;
        }
        let calls = self.shared.calls();
        let facts = Arc::clone(self.pipeline.facts());
        // A job whose prompt could not be embedded has no rows here.
        let mut standing: Vec<Standing> = rows.iter().filter_map(|job| self.floor.begin(*job, &facts, calls)).collect();
        let Some(size) = standing.first_mut().map(|first| first.row_mut().size()) else { return };
        for (lane, turn) in standing.iter().map(Standing::turn) {
            self.ledger.turns.take(lane, turn, self.ledger.limits.rows);
        }
        while !standing.is_empty() && !self.pipeline.is_suspect() {
            // As many as are due: fewer only once memory has run short.
            let rest = standing.split_off(standing.len().min(self.ledger.limits.rows));
            let short = self.encode_rows(standing, size);
            standing = short.into_iter().chain(rest).collect();
        }
    }

    /// Encodes rows in one call. Gives them back where that takes more memory than there is.
    fn encode_rows(&mut self, mut standing: Vec<Standing>, size: Size) -> Vec<Standing> {
        let begun = Instant::now();
        let mut borrowed: Vec<&mut Row> = standing.iter_mut().map(Standing::row_mut).collect();
        let encoded = self.pipeline.encode(&mut borrowed);
        let took = begun.elapsed();
        self.shared.metrics().called(Phase::Encode, standing.len());
        self.floor.encoded(&standing, took);
        match encoded {
            Ok(()) => {
                self.ledger.made(Phase::Encode, (size, standing.len()), took);
                self.floor.stand(standing);
            }
            Err(BackendError::OutOfMemory) if standing.len() > 1 => {
                self.share_less(standing.len());
                return standing;
            }
            Err(error) => {
                let named = at_fault(&error, standing.len());
                let cause = told(error);
                let (failed, encoded) = parted(standing, &named);
                let jobs = self.floor.give_up_rows(&failed);
                self.give_up(jobs, failed.len(), &cause);
                self.floor.stand(encoded);
                self.lose_trust(&cause);
            }
        }
        Vec::new()
    }

    /// A call of so many rows takes more memory than there is: from now on fewer share one.
    fn share_less(&mut self, rows: usize) {
        let rows = (rows / 2).max(1);
        self.ledger.limits.rows = self.ledger.limits.rows.min(rows);
        tracing::warn!(max_batch = rows, "device memory is exhausted; fewer pictures share a call from now on");
    }

    /// Gives up the jobs of a call that failed: where the device was at fault they run again on another one, if there is one.
    fn give_up(&mut self, jobs: Vec<Queued>, rows: usize, cause: &Arc<BackendError>) {
        let fallen = Fallen { jobs, rows, cause: Arc::clone(cause) };
        let is_doubtful = !self.pipeline.is_sound() && !self.pipeline.is_suspect();
        if is_doubtful { self.fallen.push(fallen) } else { self.tell(fallen) }
    }

    fn tell(&self, Fallen { jobs, rows, cause }: Fallen) {
        let jobs = if cause.is_the_devices() { self.shared.run_elsewhere(jobs) } else { jobs };
        for queued in jobs {
            queued.answer.give(Err(EngineError::Backend { rows, cause: Arc::clone(&cause) }));
        }
    }

    /// Embeds the prompts of jobs that begin now and takes them to the floor.
    fn seat(&mut self, jobs: Vec<Queued>) {
        let (now, calls) = (Instant::now(), self.shared.calls());
        let prompts: Vec<&str> = jobs.iter().map(|queued| queued.recipe.prompt.as_str()).collect();
        match self.pipeline.embed(&prompts) {
            Ok(texts) => {
                let embed = now.elapsed();
                for (queued, text) in jobs.into_iter().zip(texts) {
                    self.shared.metrics().waited(calls - queued.calls);
                    match text {
                        Some(text) => self.floor.seat(queued, text, (now, embed)),
                        None => {
                            let cause = told(BackendError::NotFinite { part: "text_encoder", rows: Vec::new() });
                            queued.answer.give(Err(EngineError::Backend { rows: 1, cause }));
                        }
                    }
                }
            }
            Err(error) => {
                let cause = told(error);
                let rows = jobs.len();
                let failed = |queued: Queued| Queued { failures: queued.failures + 1, ..queued };
                self.give_up(jobs.into_iter().map(failed).collect(), rows, &cause);
                self.lose_trust(&cause);
            }
        }
    }

    /// Evaluates the UNet once for rows of the floor.
    fn step(&mut self, rows: &[usize]) {
        let (begun, calls) = (Instant::now(), self.shared.calls());
        let size = rows.first().map(|first| self.floor.size(*first)).unwrap_or_default();
        let stepped = self.pipeline.step(&mut self.floor.picked(rows));
        let took = begun.elapsed();
        self.shared.metrics().called(Phase::Step, rows.len());
        self.floor.spent(rows, (Phase::Step, took), calls);
        match stepped {
            Ok(()) => self.ledger.made(Phase::Step, (size, rows.len()), took),
            Err(BackendError::OutOfMemory) if rows.len() > 1 => self.share_less(rows.len()),
            Err(error) => {
                let named = at_fault(&error, rows.len());
                let failed: Vec<usize> = named.into_iter().map(|at| rows[at]).collect();
                self.fail(&failed, error);
            }
        }
    }

    /// Decodes rows of the floor, which then leave it.
    fn decode(&mut self, rows: &[usize]) {
        let (begun, calls) = (Instant::now(), self.shared.calls());
        let size = rows.first().map(|first| self.floor.size(*first)).unwrap_or_default();
        let decoded = self.pipeline.decode(&self.floor.looked_at(rows));
        let took = begun.elapsed();
        self.shared.metrics().called(Phase::Decode, rows.len());
        self.floor.spent(rows, (Phase::Decode, took), calls);
        match decoded {
            Ok(pictures) => {
                self.ledger.made(Phase::Decode, (size, rows.len()), took);
                self.floor.finish(rows, pictures);
            }
            Err(BackendError::NotFinite { .. }) if rows.len() > 1 => self.decode_alone(rows),
            Err(BackendError::OutOfMemory) if rows.len() > 1 => self.share_less(rows.len()),
            Err(error) => self.fail(rows, error),
        }
    }

    /// Decodes rows of the floor one by one: an overflow must not take the neighbours' pictures, and alone each row shows
    /// whether it is the one.
    fn decode_alone(&mut self, rows: &[usize]) {
        let calls = self.shared.calls();
        let (mut finished, mut pictures) = (Vec::new(), Vec::new());
        for row in rows {
            let begun = Instant::now();
            let decoded = self.pipeline.decode(&self.floor.looked_at(&[*row]));
            self.shared.metrics().called(Phase::Decode, 1);
            self.floor.spent(&[*row], (Phase::Decode, begun.elapsed()), calls);
            match decoded {
                Ok(picture) => {
                    finished.push(*row);
                    pictures.extend(picture);
                }
                Err(error) => self.fail(&[*row], error),
            }
            if self.pipeline.is_suspect() {
                return;
            }
        }
        self.floor.finish(&finished, pictures);
    }

    /// Checks decoded pictures. Without a verdict nothing is shown: their jobs fail.
    fn check(&mut self, pictures: &[usize]) {
        let begun = Instant::now();
        let flags = self.pipeline.check(&self.floor.painted(pictures));
        let took = begun.elapsed();
        self.shared.metrics().called(Phase::Check, pictures.len());
        match flags {
            Ok(flags) => {
                self.ledger.made(Phase::Check, (ANY_SIZE, pictures.len()), took);
                self.shared.metrics().judged(&flags);
                self.floor.checked(pictures, (&flags, took));
            }
            Err(BackendError::OutOfMemory) if pictures.len() > 1 => self.share_less(pictures.len()),
            Err(error) => {
                let cause = told(error);
                let jobs = self.floor.give_up_checks(pictures);
                self.give_up(jobs, pictures.len(), &cause);
                self.lose_trust(&cause);
            }
        }
    }

    /// Gives up the jobs of a call, or all after a panic.
    fn fail(&mut self, rows: &[usize], error: BackendError) {
        let cause = told(error);
        let jobs = self.floor.give_up(rows);
        self.give_up(jobs, rows.len(), &cause);
        self.lose_trust(&cause);
    }

    /// After a panic nothing that the backend holds is looked at again.
    fn lose_trust(&mut self, cause: &Arc<BackendError>) {
        if self.pipeline.is_suspect() {
            let jobs = self.floor.give_up_all();
            let rows = jobs.iter().map(|queued| queued.recipe.seeds.len()).sum();
            self.give_up(jobs, rows, cause);
        }
    }
}

/// The rows of a call, by their place in it, that its failure takes: those that it names, or all.
fn at_fault(error: &BackendError, rows: usize) -> Vec<usize> {
    match error {
        BackendError::NotFinite { rows: named, .. } if !named.is_empty() => {
            named.iter().copied().filter(|at| *at < rows).collect()
        }
        _ => (0..rows).collect(),
    }
}

/// Rows that failed, and those that did not.
fn parted(rows: Vec<Standing>, failed: &[usize]) -> (Vec<Standing>, Vec<Standing>) {
    let (failed, others): (Vec<_>, Vec<_>) = rows.into_iter().enumerate().partition(|(at, _)| failed.contains(at));
    let rows = |some: Vec<(usize, Standing)>| some.into_iter().map(|(_, row)| row).collect();
    (rows(failed), rows(others))
}

/// Passes a report on to the log and to those who watch the state.
fn hear(shared: &Shared, progress: PartProgress) {
    let (part, bytes) = (&*progress.part, progress.bytes);
    match progress.took {
        None => tracing::info!(part, bytes, "opening"),
        Some(took) => tracing::info!(part, bytes, took_ms = took.as_millis() as u64, "opened"),
    }
    shared.set_state(EngineState::Loading { progress: Some(progress) });
}

/// Logs a failure of the backend, which from here on is shared.
fn told(error: BackendError) -> Arc<BackendError> {
    tracing::error!(error = &error as &dyn std::error::Error, "backend failed");
    Arc::new(error)
}
