//! The costs of a model's calls, by phase and rows.

use std::time::{Duration, Instant};

use falgate::engine::onnx::{OnnxBackend, OnnxSettings};
use falgate::engine::{
    Backend as _, BackendError, EncodeRow, Latents, LoadProgress, Phase, Picture, StepRow, TorchNoise,
    guidance_embedding,
};

use super::{Fault, Model, places, table};

/// Calls of a kind, of which the median counts; the first two do not.
const CALLS: usize = 9;

/// Measures and prints a table.
pub(crate) fn run(model: &Model) -> Result<(), Fault> {
    let settings = OnnxSettings { threads: model.threads, ..OnnxSettings::cpu(&model.model) };
    let opened = OnnxBackend::open(&settings, &places(), &LoadProgress::silent());
    let (backend, tokenizer) = opened.map_err(|fault| Fault::Model(Box::new(fault)))?;
    println!("# {}, {}, {} px, median of {CALLS} calls", backend.facts().name, backend.facts().device, model.size);
    let failed = |fault: BackendError| Fault::Model(Box::new(fault));
    let mut bench = Bench { backend, size: model.size };
    let text = bench.backend.embed(&[&tokenizer.ids("a lighthouse at dusk")]).map_err(failed)?.remove(0);
    let guidance = guidance_embedding(8.0, bench.backend.facts().guidance_width.unwrap_or(0));
    let picture = vec![128; (model.size * model.size * 3) as usize];
    let picture = Picture::new(model.size, model.size, picture).ok_or_else(|| Fault::Model("size is zero".into()))?;
    let side = (model.size / bench.backend.facts().latent_factor) as usize;
    let noise = TorchNoise::new(1).draw(bench.backend.facts().latent_channels * side * side);
    for rows in (1..=model.rows).filter(|rows| rows.is_power_of_two() || *rows == model.rows) {
        let row =
            || EncodeRow { picture: &picture, posterior: Some(&noise), latents: 0.8, noise: 0.6, initial: &noise };
        let inputs: Vec<EncodeRow<'_>> = (0..rows).map(|_| row()).collect();
        let mut latents = bench.time((Phase::Encode, rows), |backend| backend.encode(&inputs)).map_err(failed)?;
        let step = |backend: &mut OnnxBackend, latents: &mut [Latents]| {
            // One timestep for all: any model takes these rows in one call.
            let mut inputs: Vec<StepRow<'_>> = latents
                .iter_mut()
                .map(|latents| StepRow {
                    latents,
                    timestep: 499,
                    text: &text,
                    guidance: &guidance,
                    sample: 1.0,
                    output: 0.0,
                    noise: None,
                })
                .collect();
            backend.step(&mut inputs)
        };
        bench.time((Phase::Step, rows), |backend| step(backend, &mut latents)).map_err(failed)?;
        let latents: Vec<&Latents> = latents.iter().collect();
        bench.time((Phase::Decode, rows), |backend| backend.decode(&latents)).map_err(failed)?;
    }
    Ok(())
}

struct Bench {
    backend: OnnxBackend,
    size: u32,
}

impl Bench {
    /// Makes calls of one kind, prints the median of their times, and gives what the last one gave.
    fn time<T>(
        &mut self,
        (phase, rows): (Phase, usize),
        mut call: impl FnMut(&mut OnnxBackend) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        for _ in 0..2 {
            call(&mut self.backend)?;
        }
        let mut times = Vec::with_capacity(CALLS);
        loop {
            let begun = Instant::now();
            let gave = call(&mut self.backend)?;
            times.push(begun.elapsed());
            if times.len() == CALLS {
                times.sort_unstable();
                let median: Duration = times[CALLS / 2];
                println!("{}", table::line(phase, (self.size, rows), median));
                return Ok(gave);
            }
        }
    }
}
