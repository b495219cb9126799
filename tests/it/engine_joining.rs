//! A backend in whose UNet calls further jobs are submitted, and others given up: at which call a row joins or leaves is part of
//! the case, not of chance.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use falgate::engine::{
    Backend, BackendError, EncodeRow, Engine, EngineError, Job, Latents, ModelFacts, Picture, StepRow, TextRow, Ticket,
    TokenIds,
};
use tokio::sync::mpsc;

use super::engine_support::result;

/// Jobs that join at a UNet call, counted from the beginning of a case.
#[derive(Clone, Default)]
pub(crate) struct Joins(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: AtomicUsize,
    widest: AtomicUsize,
    case: Mutex<Option<Case>>,
}

struct Case {
    engine: Engine,
    /// Those that are still to come, by their numbers.
    coming: Vec<(usize, Comer)>,
    tickets: mpsc::UnboundedSender<(usize, Ticket)>,
    /// Tickets of those that will leave, and the call at which they do.
    leaving: Vec<(usize, Ticket)>,
}

/// A job, the UNet call at which it joins, and the one at which it is given up.
#[derive(Clone)]
pub(crate) struct Comer {
    pub(crate) joins: usize,
    pub(crate) leaves: Option<usize>,
    pub(crate) job: Job,
}

/// What became of a job; `None` for one that was given up.
pub(crate) type Outcome = Option<Result<Vec<Picture>, EngineError>>;

impl Case {
    fn submit_until(&mut self, call: usize) {
        self.leaving.retain(|(leaves, _)| *leaves > call);
        for (number, comer) in self.coming.extract_if(.., |(_, comer)| comer.joins <= call) {
            let ticket = self.engine.submit(comer.job).unwrap();
            match comer.leaves {
                Some(leaves) => self.leaving.push((leaves, ticket)),
                None => self.tickets.send((number, ticket)).unwrap(),
            }
        }
    }
}

impl Joins {
    /// Wraps a backend.
    pub(crate) fn wrap(&self, inner: Box<dyn Backend>) -> Box<dyn Backend> {
        Box::new(Joining { inner, joins: self.clone() })
    }

    /// Timesteps of the UNet call that had most different ones.
    pub(crate) fn widest_mix(&self) -> usize {
        self.0.widest.load(Ordering::SeqCst)
    }

    /// Runs jobs that join at these calls, and gives their pictures in the order of the jobs.
    pub(crate) async fn run(&self, engine: &Engine, jobs: Vec<(usize, Job)>) -> Vec<Vec<Picture>> {
        let comers = jobs.into_iter().map(|(joins, job)| Comer { joins, leaves: None, job });
        let outcomes = self.outcomes(engine, comers.collect()).await;
        outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap()).collect()
    }

    /// Runs jobs that join and leave at these calls, and says what became of each.
    pub(crate) async fn outcomes(&self, engine: &Engine, comers: Vec<Comer>) -> Vec<Outcome> {
        let (tickets, mut submitted) = mpsc::unbounded_channel();
        let mut outcomes: Vec<Outcome> = comers.iter().map(|_| None).collect();
        let coming = comers.into_iter().enumerate().collect();
        self.0.calls.store(0, Ordering::SeqCst);
        *self.0.case.lock().unwrap() = Some(Case { engine: engine.clone(), coming, tickets, leaving: Vec::new() });
        loop {
            while let Ok((number, ticket)) = submitted.try_recv() {
                outcomes[number] = Some(result(ticket).await.map(|done| done.pictures));
            }
            // The device rests: whoever was to join later comes now.
            if self.bring_next() {
                continue;
            }
            // Whoever leaves may have brought others in until now.
            while let Ok((number, ticket)) = submitted.try_recv() {
                outcomes[number] = Some(result(ticket).await.map(|done| done.pictures));
            }
            return outcomes;
        }
    }
}

impl Joins {
    /// Brings in who comes next; ends the case where nobody does.
    fn bring_next(&self) -> bool {
        let mut case = self.0.case.lock().unwrap();
        let open = case.as_mut().unwrap();
        let Some(next) = open.coming.iter().map(|(_, comer)| comer.joins).min() else {
            *case = None;
            return false;
        };
        self.0.calls.fetch_max(next, Ordering::SeqCst);
        open.submit_until(next);
        true
    }
}

struct Joining {
    inner: Box<dyn Backend>,
    joins: Joins,
}

impl Backend for Joining {
    fn facts(&self) -> &ModelFacts {
        self.inner.facts()
    }

    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError> {
        self.inner.embed(prompts)
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError> {
        self.inner.encode(rows)
    }

    fn step(&mut self, rows: &mut [StepRow<'_>]) -> Result<(), BackendError> {
        let call = self.joins.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(case) = &mut *self.joins.0.case.lock().unwrap() {
            case.submit_until(call);
        }
        let mut timesteps: Vec<u32> = rows.iter().map(|row| row.timestep).collect();
        timesteps.sort_unstable();
        timesteps.dedup();
        self.joins.0.widest.fetch_max(timesteps.len(), Ordering::SeqCst);
        self.inner.step(rows)
    }

    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError> {
        self.inner.decode(rows)
    }

    fn judge(&mut self, pictures: &[&Picture]) -> Result<Vec<bool>, BackendError> {
        self.inner.judge(pictures)
    }

    fn read_latents(&mut self, latents: &Latents) -> Result<Vec<f32>, BackendError> {
        self.inner.read_latents(latents)
    }

    fn read_text(&mut self, text: &TextRow) -> Result<Vec<f32>, BackendError> {
        self.inner.read_text(text)
    }
}
