//! From jobs to pictures: drives a backend through embedding, encoding, steps and decoding, rows at a time.

use std::any::Any;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lru::LruCache;

use super::recipe::Recipe;
use super::row::Row;
use super::{
    Backend, BackendError, EncodeRow, Job, Lane, Latents, ModelFacts, Opened, Order, Picture, Posterior, SafetyCheck,
    Schedule, ScheduleError, StepRow, TextRow, TokenIds, Tokenize,
};

/// A model ready to run rows.
pub(super) struct Pipeline {
    backend: Box<dyn Backend>,
    tokenizer: Box<dyn Tokenize + Send>,
    facts: Arc<ModelFacts>,
    schedule: Schedule,
    texts: LruCache<TokenIds, TextRow>,
    trust: Trust,
}

/// Whether the backend is in a known state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Sound,
    /// A call failed since its last warm-up: the call's fault, or the device's.
    Doubtful,
    /// It panicked since its last warm-up.
    Suspect,
}

impl Pipeline {
    /// Takes a model that was opened. `prompts` embeddings are kept.
    pub(super) fn new(opened: Opened, prompts: NonZeroUsize) -> Result<Self, ScheduleError> {
        let Opened { backend, tokenizer } = opened;
        let facts = Arc::new(backend.facts().clone());
        let schedule = Schedule::new(&facts.schedule)?;
        Ok(Self { backend, tokenizer, facts, schedule, texts: LruCache::new(prompts), trust: Trust::Sound })
    }

    pub(super) fn facts(&self) -> &Arc<ModelFacts> {
        &self.facts
    }

    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Whether no call failed since the last warm-up but for memory or an overflow.
    pub(super) fn is_sound(&self) -> bool {
        self.trust == Trust::Sound
    }

    /// Takes the backend for sound without a warm-up.
    pub(super) fn trust_again(&mut self) {
        self.trust = Trust::Sound;
    }

    /// Whether the backend panicked since its last warm-up.
    pub(super) fn is_suspect(&self) -> bool {
        self.trust == Trust::Suspect
    }

    /// Runs one picture of about `side` pixels through every part. A success restores trust after a panic.
    pub(super) fn warm_up(&mut self, side: u32) -> Result<(), BackendError> {
        let side = side.next_multiple_of(self.facts.size_multiple);
        let grey = vec![128; (side as usize).pow(2) * 3];
        let job = Job {
            picture: Picture::new(side, side, grey).expect("a square picture of that length"),
            prompt: String::new(),
            strength: 0.5,
            steps: 1,
            guidance_scale: 8.0,
            seeds: vec![0],
            posterior: Posterior::Sample,
            start_by: None,
            lane: Lane::new(),
            order: Order::InTurn,
            safety: SafetyCheck::Skipped,
        };
        let recipe = Recipe::new(job, &self.facts, &self.schedule, 1).expect("one step of a fitting picture fits");
        // The cache may hold what the backend has lost in a panic.
        self.texts.clear();
        let text = self.embed(&[&recipe.prompt])?.remove(0).ok_or_else(|| overflow("text_encoder", vec![0]))?;
        let mut row = Row::new(&recipe, 0, text, &self.facts);
        self.encode(&mut [&mut row])?;
        self.step(&mut [&mut row])?;
        let painted = self.decode(&[&row])?;
        if self.facts.safety_checker {
            self.check(&painted.iter().collect::<Vec<_>>())?;
        }
        self.trust = Trust::Sound;
        Ok(())
    }

    /// Embeds prompts, one result each: `None` for one whose embedding overflows. Known prompts cost nothing, and equal ones are
    /// embedded once.
    pub(super) fn embed(&mut self, prompts: &[&str]) -> Result<Vec<Option<TextRow>>, BackendError> {
        let tokens: Vec<TokenIds> = prompts.iter().map(|prompt| self.tokenizer.encode(prompt)).collect();
        // Held here, so that a batch of more prompts than the cache has places keeps all of its own.
        let mut known: HashMap<&TokenIds, TextRow> = HashMap::new();
        let mut missing: Vec<&TokenIds> = Vec::new();
        for ids in &tokens {
            if let Some(text) = self.texts.get(ids) {
                known.insert(ids, text.clone());
            } else if !missing.contains(&ids) {
                missing.push(ids);
            }
        }
        for chunk in missing.chunks(self.facts.max_batch.max(1)) {
            let embed = |some: &[&TokenIds]| guard(&mut self.trust, || counted(self.backend.embed(some)?, some.len()));
            let texts = all_or_one_by_one(chunk, embed)?;
            for (ids, text) in chunk.iter().zip(texts) {
                let Some(text) = text else { continue };
                self.texts.put((*ids).clone(), text.clone());
                known.insert(ids, text);
            }
        }
        Ok(tokens.iter().map(|ids| known.get(ids).cloned()).collect())
    }

    /// Encodes rows of one size and noises them for their first timestep. After [`BackendError::NotFinite`] those that it does not
    /// name are encoded.
    pub(super) fn encode(&mut self, rows: &mut [&mut Row]) -> Result<(), BackendError> {
        for row in &mut *rows {
            row.draw_for_encode();
        }
        let inputs: Vec<EncodeRow<'_>> = rows
            .iter()
            .map(|row| {
                let first = row.timestep().expect("a row has at least one step");
                let mix = self.schedule.mix(first);
                row.encoding(mix.clean as f32, mix.noise as f32)
            })
            .collect();
        let encode =
            |some: &[EncodeRow<'_>]| guard(&mut self.trust, || counted(self.backend.encode(some)?, some.len()));
        let latents = all_or_one_by_one(&inputs, encode)?;
        let mut overflowed = Vec::new();
        for (at, (row, latents)) in rows.iter_mut().zip(latents).enumerate() {
            match latents {
                Some(latents) => row.encoded(latents),
                None => overflowed.push(at),
            }
        }
        if overflowed.is_empty() { Ok(()) } else { Err(overflow("vae_encoder", overflowed)) }
    }

    /// Takes the next step of every row, wherever each has come to. After [`BackendError::NotFinite`] those that it does not name, if
    /// it names any, have taken theirs.
    pub(super) fn step(&mut self, rows: &mut [&mut Row]) -> Result<(), BackendError> {
        for row in &mut *rows {
            row.draw_for_step();
        }
        let mut inputs: Vec<StepRow<'_>> = rows.iter_mut().filter_map(|row| row.stepping()).collect();
        let stepped = guard(&mut self.trust, || self.backend.step(&mut inputs));
        let overflowed = match &stepped {
            Ok(()) => &[][..],
            Err(BackendError::NotFinite { rows, .. }) if !rows.is_empty() => rows,
            Err(_) => return stepped,
        };
        for (_, row) in rows.iter_mut().enumerate().filter(|(at, _)| !overflowed.contains(at)) {
            row.stepped();
        }
        stepped
    }

    /// Decodes rows whose steps are all taken.
    pub(super) fn decode(&mut self, rows: &[&Row]) -> Result<Vec<Picture>, BackendError> {
        let latents: Vec<&Latents> = rows.iter().filter_map(|row| row.finished()).collect();
        guard(&mut self.trust, || counted(self.backend.decode(&latents)?, rows.len()))
    }

    /// Says for each picture whether the safety checker flags it.
    pub(super) fn check(&mut self, pictures: &[&Picture]) -> Result<Vec<bool>, BackendError> {
        guard(&mut self.trust, || counted(self.backend.judge(pictures)?, pictures.len()))
    }
}

/// Runs a call for all rows, and where something in it overflows, for each row alone: `None` for those that overflow. The call must
/// leave its rows as they were.
fn all_or_one_by_one<R, T>(
    rows: &[R],
    mut call: impl FnMut(&[R]) -> Result<Vec<T>, BackendError>,
) -> Result<Vec<Option<T>>, BackendError> {
    match call(rows) {
        Ok(results) => Ok(results.into_iter().map(Some).collect()),
        Err(BackendError::NotFinite { .. }) if rows.len() > 1 => {
            let alone = |row| match call(std::slice::from_ref(row)) {
                Ok(mut results) => Ok(results.pop()),
                Err(BackendError::NotFinite { .. }) => Ok(None),
                Err(error) => Err(error),
            };
            rows.iter().map(alone).collect()
        }
        Err(error) => Err(error),
    }
}

fn overflow(part: &'static str, rows: Vec<usize>) -> BackendError {
    BackendError::NotFinite { part, rows }
}

/// Runs a call of the backend; a panic becomes an error. Either costs the backend its trust, unless another input would have
/// gone well.
fn guard<T>(trust: &mut Trust, call: impl FnOnce() -> Result<T, BackendError>) -> Result<T, BackendError> {
    // Whatever the call left half done is not looked at again: its rows fail, and the backend has to pass a warm-up.
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        *trust = Trust::Suspect;
        Err(BackendError::Panicked { what: panic_message(payload.as_ref()) })
    });
    if matches!(result, Err(BackendError::Run { .. })) && *trust == Trust::Sound {
        *trust = Trust::Doubtful;
    }
    result
}

fn counted<T>(results: Vec<T>, want: usize) -> Result<Vec<T>, BackendError> {
    let got = results.len();
    if got == want { Ok(results) } else { Err(BackendError::Count { got, want }) }
}

/// The text of a panic, as far as it has one.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
