//! How long the parts of a model take, batch by batch, on the device of a backend.
//!
//! What is measured is the backend alone, on the calling thread: no queue, no codecs, no other rows. Values are arbitrary,
//! since times do not depend on them.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    Backend, BackendError, EncodeRow, Latents, ModelFacts, Opened, Picture, StepRow, TextRow, TorchNoise,
    guidance_embedding,
};

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchPlan {
    /// Side of the square pictures, a multiple of [`ModelFacts::size_multiple`].
    pub side_px: u32,
    /// Rows a call.
    pub batches: Vec<NonZeroUsize>,
    /// Step counts of the whole pictures.
    pub steps: Vec<NonZeroUsize>,
    /// Calls before the clock runs: a device plans, allocates and records in its first ones.
    pub warm_up: usize,
    /// Measured calls a row of the table.
    pub rounds: NonZeroUsize,
    /// No further call begins once those of a row took so long.
    #[serde(rename = "row_limit_s", serialize_with = "seconds")]
    pub row_limit: Duration,
}

/// Writes a duration as seconds.
fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

/// One line of the table: a phase at a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchRow {
    /// The graph, or `picture` for encode, steps and decode together, with the embedding at hand as it is between strokes.
    pub part: &'static str,
    /// Steps of a whole picture; `None` for a graph.
    pub steps: Option<usize>,
    /// Rows of the call.
    pub batch: usize,
    /// The times; `None` where the device had too little memory for such a batch.
    pub times: Option<BenchTimes>,
    /// Memory of the process after the calls, in bytes, where it is known.
    pub process_bytes: Option<u64>,
    /// Memory that is taken on the device after the calls, in bytes, where it is known.
    pub device_bytes: Option<u64>,
}

/// Times of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchTimes {
    /// Calls that were measured.
    pub calls: usize,
    /// The middle one, in milliseconds.
    pub median_ms: f64,
    /// The shortest, in milliseconds.
    pub least_ms: f64,
    /// The longest, in milliseconds.
    pub most_ms: f64,
    /// Rows a second at the median: pictures, or steps of pictures.
    pub rows_per_s: f64,
}

impl BenchTimes {
    /// Sums up measured calls of `batch` rows; `None` without any.
    fn of(mut calls: Vec<Duration>, batch: usize) -> Option<Self> {
        calls.sort();
        let (least, most) = (calls.first()?, calls.last()?);
        let (low, high) = (calls[(calls.len() - 1) / 2], calls[calls.len() / 2]);
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let median_ms = f64::midpoint(ms(low), ms(high));
        Some(Self {
            calls: calls.len(),
            median_ms,
            least_ms: ms(*least),
            most_ms: ms(*most),
            rows_per_s: batch as f64 * 1e3 / median_ms.max(1e-6),
        })
    }
}

/// Measures a model. `hear` gets every row when it is done, and may add what it knows of memory.
///
/// A batch that the device has no memory for gives a row without times, and larger ones of that phase are left out.
///
/// # Errors
/// [`BackendError`] when the device fails otherwise, or [`BackendError::Shape`] for a side that the model cannot take.
pub fn bench(
    opened: &mut Opened,
    plan: &BenchPlan,
    hear: &mut dyn FnMut(&mut BenchRow),
) -> Result<Vec<BenchRow>, BackendError> {
    let facts = opened.backend.facts().clone();
    if plan.side_px == 0 || !plan.side_px.is_multiple_of(facts.size_multiple) {
        return Err(BackendError::Shape { got: plan.side_px as usize, want: facts.size_multiple as usize });
    }
    let ids = opened.tokenizer.encode("a quiet harbour at dawn with small boats and a red lighthouse");
    let backend = opened.backend.as_mut();
    let text = one(backend.embed(&[&ids])?)?;
    let inputs = Inputs::new(&facts, plan.side_px);
    let mut bench = Bench { backend, plan, rows: Vec::new(), hear };
    bench.phase(
        ("text_encoder", None),
        |_, batch| Ok(vec![&ids; batch]),
        |backend, prompts| backend.embed(prompts).map(drop),
    )?;
    bench.phase(
        ("vae_encoder", None),
        |_, batch| Ok(batch),
        |backend, batch| inputs.encode(backend, *batch).map(drop),
    )?;
    bench.phase(
        ("unet", None),
        |backend, batch| inputs.encode(backend, batch),
        |backend, latents| inputs.step(backend, latents, &text),
    )?;
    bench.phase(
        ("vae_decoder", None),
        |backend, batch| inputs.encode(backend, batch),
        |backend, latents| backend.decode(&latents.iter().collect::<Vec<_>>()).map(drop),
    )?;
    if facts.safety_checker {
        bench.phase(
            ("safety_checker", None),
            |_, batch| Ok(vec![&inputs.picture; batch]),
            |backend, pictures| backend.judge(pictures).map(drop),
        )?;
    }
    for steps in plan.steps.iter().map(|steps| steps.get()) {
        bench.phase(
            ("picture", Some(steps)),
            |_, batch| Ok(batch),
            |backend, batch| {
                let mut latents = inputs.encode(backend, *batch)?;
                for _ in 0..steps {
                    inputs.step(backend, &mut latents, &text)?;
                }
                backend.decode(&latents.iter().collect::<Vec<_>>()).map(drop)
            },
        )?;
    }
    Ok(bench.rows)
}

/// The only result of a call with one row.
fn one<T>(results: Vec<T>) -> Result<T, BackendError> {
    let got = results.len();
    results.into_iter().next().ok_or(BackendError::Count { got, want: 1 })
}

/// What every call is fed with.
struct Inputs {
    picture: Picture,
    noise: Vec<f32>,
    guidance: Vec<f32>,
}

impl Inputs {
    fn new(facts: &ModelFacts, side: u32) -> Self {
        let level = |place: u32| (place % 251) as u8;
        let rgb = (0..side * side * 3).map(level).collect();
        let latent = (side / facts.latent_factor.max(1)) as usize;
        let mut noise = vec![0.0; facts.latent_channels * latent * latent];
        TorchNoise::new(1).fill(&mut noise);
        let picture = Picture::new(side, side, rgb).expect("the pixels fill a picture whose side is not zero");
        Self { picture, noise, guidance: guidance_embedding(8.0, facts.guidance_width.unwrap_or(0)) }
    }

    fn encode(&self, backend: &mut dyn Backend, batch: usize) -> Result<Vec<Latents>, BackendError> {
        let row = || EncodeRow {
            picture: &self.picture,
            posterior: Some(&self.noise),
            latents: 0.8,
            noise: 0.6,
            initial: &self.noise,
        };
        let rows: Vec<EncodeRow<'_>> = (0..batch).map(|_| row()).collect();
        let latents = backend.encode(&rows)?;
        if latents.len() == batch { Ok(latents) } else { Err(BackendError::Count { got: latents.len(), want: batch }) }
    }

    /// One step of all rows, with weights that keep values small however often it is done.
    fn step(&self, backend: &mut dyn Backend, latents: &mut [Latents], text: &TextRow) -> Result<(), BackendError> {
        let mut rows: Vec<StepRow<'_>> = latents
            .iter_mut()
            .map(|latents| StepRow {
                latents,
                timestep: 499,
                text,
                guidance: &self.guidance,
                sample: 0.5,
                output: 0.1,
                noise: Some((0.1, &self.noise)),
            })
            .collect();
        backend.step(&mut rows)
    }
}

/// A measurement under way.
struct Bench<'a> {
    backend: &'a mut dyn Backend,
    plan: &'a BenchPlan,
    rows: Vec<BenchRow>,
    hear: &'a mut dyn FnMut(&mut BenchRow),
}

impl Bench<'_> {
    /// Measures one phase at every batch, from the smallest; `prepare` is not timed.
    fn phase<S>(
        &mut self,
        (part, steps): (&'static str, Option<usize>),
        mut prepare: impl FnMut(&mut dyn Backend, usize) -> Result<S, BackendError>,
        mut call: impl FnMut(&mut dyn Backend, &mut S) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let mut batches: Vec<usize> = self.plan.batches.iter().map(|batch| batch.get()).collect();
        batches.sort_unstable();
        batches.dedup();
        for batch in batches {
            let times = match prepare(self.backend, batch).and_then(|mut fed| self.calls(|b| call(b, &mut fed))) {
                Ok(calls) => BenchTimes::of(calls, batch),
                Err(BackendError::OutOfMemory) => None,
                Err(error) => return Err(error),
            };
            let enough = times.is_some();
            let mut row = BenchRow { part, steps, batch, times, process_bytes: None, device_bytes: None };
            (self.hear)(&mut row);
            self.rows.push(row);
            if !enough {
                break;
            }
        }
        Ok(())
    }

    /// The times of one row's calls.
    fn calls(
        &mut self,
        mut call: impl FnMut(&mut dyn Backend) -> Result<(), BackendError>,
    ) -> Result<Vec<Duration>, BackendError> {
        for _ in 0..self.plan.warm_up {
            call(self.backend)?;
        }
        let (begin, mut calls) = (Instant::now(), Vec::new());
        while calls.is_empty() || (calls.len() < self.plan.rounds.get() && begin.elapsed() < self.plan.row_limit) {
            let begin = Instant::now();
            call(self.backend)?;
            calls.push(begin.elapsed());
        }
        Ok(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FakeBackend, FakeFault, FakePart, FakeSettings};
    use super::*;

    fn plan() -> BenchPlan {
        let number = |number| NonZeroUsize::new(number).unwrap();
        BenchPlan {
            side_px: 64,
            batches: vec![number(2), number(1)],
            steps: vec![number(3)],
            warm_up: 1,
            rounds: number(2),
            row_limit: Duration::MAX,
        }
    }

    #[test]
    fn every_phase_is_measured_at_every_batch_from_the_smallest() {
        let (mut opened, control) = FakeBackend::open(FakeSettings::default());
        let mut heard = Vec::new();
        let rows = bench(&mut opened, &plan(), &mut |row| {
            row.process_bytes = Some(7);
            heard.push(row.clone());
        })
        .unwrap();
        assert_eq!(rows, heard);
        let shape: Vec<_> = rows.iter().map(|row| (row.part, row.steps, row.batch)).collect();
        let both = |part, steps| [(part, steps, 1), (part, steps, 2)];
        let graphs = ["text_encoder", "vae_encoder", "unet", "vae_decoder"].map(|part| both(part, None)).concat();
        assert_eq!(shape, [graphs, both("picture", Some(3)).to_vec()].concat());
        assert!(rows.iter().all(|row| row.times.as_ref().is_some_and(|times| times.calls == 2)));
        // A warm-up and two measured calls, of one step and of three, at both batches.
        assert_eq!(control.calls_of(FakePart::Step).len(), 2 * 3 * (1 + 3));
    }

    #[test]
    fn a_safety_checker_is_measured_where_there_is_one() {
        let (mut opened, control) = FakeBackend::open(FakeSettings::default().with_checker(255));
        let rows = bench(&mut opened, &plan(), &mut |_| {}).unwrap();
        let batches: Vec<usize> = rows.iter().filter(|row| row.part == "safety_checker").map(|row| row.batch).collect();
        assert_eq!((batches, control.calls_of(FakePart::Check).len()), (vec![1, 2], 2 * 3));
    }

    #[test]
    fn a_batch_without_room_is_shown_and_larger_ones_are_left_out() {
        let (mut opened, control) = FakeBackend::open(FakeSettings::default());
        control.inject(FakePart::Decode, 0, FakeFault::OutOfMemory);
        let rows = bench(&mut opened, &plan(), &mut |_| {}).unwrap();
        let decodes: Vec<_> = rows.iter().filter(|row| row.part == "vae_decoder").collect();
        assert_eq!((decodes.len(), &decodes[0].times), (1, &None));
    }

    #[test]
    fn a_side_that_the_model_cannot_take_is_refused_before_any_call() {
        let (mut opened, control) = FakeBackend::open(FakeSettings::default());
        let error = bench(&mut opened, &BenchPlan { side_px: 100, ..plan() }, &mut |_| {}).unwrap_err();
        assert!(matches!(error, BackendError::Shape { got: 100, want: 64 }), "{error}");
        assert!(control.calls().is_empty());
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let times = BenchTimes::of([4, 1, 2, 9].map(Duration::from_millis).to_vec(), 2).unwrap();
        assert_eq!((times.median_ms, times.least_ms, times.most_ms), (3.0, 1.0, 9.0));
        assert!((times.rows_per_s - 666.667).abs() < 1e-2);
        assert_eq!(BenchTimes::of(Vec::new(), 1), None);
    }
}
