//! A backend in whose UNet calls further jobs are submitted: at which call a row joins is part of the case, not of chance.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use falgate::engine::{
    Backend, BackendError, EncodeRow, Engine, Job, Latents, ModelFacts, Picture, StepRow, TextRow, Ticket, TokenIds,
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
    /// Number and job of those that are still to come, and the call at which they join.
    coming: Vec<(usize, usize, Job)>,
    tickets: mpsc::UnboundedSender<(usize, Ticket)>,
}

impl Case {
    fn submit_until(&mut self, call: usize) {
        for (number, _, job) in self.coming.extract_if(.., |(_, joins, _)| *joins <= call) {
            self.tickets.send((number, self.engine.submit(job).unwrap())).unwrap();
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
        let (tickets, mut submitted) = mpsc::unbounded_channel();
        let mut pictures = vec![Vec::new(); jobs.len()];
        let coming = jobs.into_iter().enumerate().map(|(number, (joins, job))| (number, joins, job)).collect();
        self.0.calls.store(0, Ordering::SeqCst);
        *self.0.case.lock().unwrap() = Some(Case { engine: engine.clone(), coming, tickets });
        loop {
            while let Ok((number, ticket)) = submitted.try_recv() {
                pictures[number] = result(ticket).await.unwrap().pictures;
            }
            // The device rests: whoever was to join later comes now.
            let mut case = self.0.case.lock().unwrap();
            let open = case.as_mut().unwrap();
            let Some(next) = open.coming.iter().map(|(_, joins, _)| *joins).min() else {
                *case = None;
                return pictures;
            };
            self.0.calls.fetch_max(next, Ordering::SeqCst);
            open.submit_until(next);
        }
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
