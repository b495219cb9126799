//! The whole engine on a real model: from a picture, a prompt and a seed to the picture that diffusers gives.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use falgate::engine::onnx::{LibraryPlaces, OnnxBackend};
use falgate::engine::{
    Backend as _, EncodeRow, Engine, EngineSettings, EngineState, Job, Lane, OpenError, Order, Picture, Posterior,
    SafetyCheck, StepRow, TorchNoise, guidance_embedding, onnx,
};

use super::onnx_support::{Deviations, Open, document, golden, model, places, single};

/// An engine on a folder; `None` where there is no runtime.
fn engine(folder: &Path) -> Option<Engine> {
    let places = places()?;
    let settings = EngineSettings {
        enabled: true,
        model: Some(folder.to_owned()),
        warm_up_px: NonZeroU32::new(64).unwrap(),
        max_batch: NonZeroUsize::new(4).unwrap(),
        ..EngineSettings::default()
    };
    let theirs = settings.clone();
    Some(Engine::start(settings, move |progress| onnx::open(&theirs, &places, progress)))
}

/// The job of a recorded run of one picture.
fn job(case: &serde_json::Value) -> Job {
    let key = format!("case.{}.image_u8", case["name"].as_str().unwrap());
    let shape = golden().shape(&key);
    Job {
        picture: Picture::new(shape[2] as u32, shape[1] as u32, golden().bytes(&key).to_vec()).unwrap(),
        prompt: case["prompts"].as_str().unwrap().to_owned(),
        strength: case["strength"].as_f64().unwrap(),
        steps: case["steps"].as_u64().unwrap() as u32,
        guidance_scale: case["guidance_scale"].as_f64().unwrap(),
        seeds: vec![case["seed"].as_u64().unwrap()],
        posterior: Posterior::Sample,
        start_by: None,
        lane: Lane::new(),
        order: Order::InTurn,
        safety: SafetyCheck::Skipped,
    }
}

/// Recorded runs that one generator a picture can repeat: a batch of diffusers draws all its rows from one.
fn lone_cases() -> impl Iterator<Item = &'static serde_json::Value> {
    document()["cases"].as_array().unwrap().iter().filter(|case| case["prompts"].is_string())
}

async fn pictures_from_seeds(name: &str, levels: f64) {
    let Some(engine) = engine(&model(name)) else { return };
    engine.ready().await.unwrap();
    let mut seen = Deviations::default();
    for case in lone_cases() {
        let done = engine.submit(job(case)).unwrap().await.unwrap();
        let want = golden().bytes(&format!("case.{}.output_u8", case["name"].as_str().unwrap()));
        seen.levels(("final levels", levels), done.pictures[0].rgb(), want);
    }
    seen.check(name);
    engine.close();
    engine.ended().await;
}

#[tokio::test]
async fn a_seed_gives_the_picture_that_diffusers_gives() {
    pictures_from_seeds("tiny-lcm-onnx", 1.0).await;
}

#[tokio::test]
async fn half_precision_gives_that_picture_within_four_levels() {
    pictures_from_seeds("tiny-lcm-onnx-fp16", 4.0).await;
}

#[tokio::test]
async fn pictures_of_one_batch_equal_their_lone_runs() {
    let Some(engine) = engine(&model("tiny-lcm-onnx")) else { return };
    engine.ready().await.unwrap();
    let jobs: Vec<Job> = lone_cases().map(job).filter(|job| job.picture.width() == 64).collect();
    assert!(jobs.len() >= 3);
    let together: Vec<_> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
    let mut batched = Vec::new();
    for ticket in together {
        batched.push(ticket.await.unwrap().pictures.remove(0));
    }
    let seeds = vec![11, 12, 13];
    let several = engine.submit(Job { seeds: seeds.clone(), ..jobs[0].clone() }).unwrap().await.unwrap().pictures;
    let mut seen = Deviations::default();
    for (job, picture) in jobs.iter().zip(&batched) {
        let alone = engine.submit(job.clone()).unwrap().await.unwrap().pictures.remove(0);
        seen.levels(("batch row", 1.0), picture.rgb(), alone.rgb());
    }
    for (seed, picture) in seeds.into_iter().zip(&several) {
        let alone = engine.submit(Job { seeds: vec![seed], ..jobs[0].clone() }).unwrap().await.unwrap();
        seen.levels(("seed of several", 1.0), picture.rgb(), alone.pictures[0].rgb());
    }
    assert_ne!(several[0], several[1]);
    seen.check("batch");
}

/// (√ᾱ, √(1−ᾱ)) of a timestep, by the definition.
fn weights(timestep: u32) -> (f64, f64) {
    let (first, last) = (0.000_85f64.sqrt(), 0.012f64.sqrt());
    let alpha: f64 = (0..=timestep).map(|i| 1.0 - (first + (last - first) * f64::from(i) / 999.0).powi(2)).product();
    (alpha.sqrt(), (1.0 - alpha).sqrt())
}

/// The algorithm written out step by step over the backend, for recorded timesteps.
fn by_hand(open: &mut Open, job: &Job, timesteps: &[u32]) -> Picture {
    let backend = &mut open.backend;
    let mut noise = TorchNoise::new(job.seeds[0]);
    let len = 4 * (job.picture.width() / 8 * (job.picture.height() / 8)) as usize;
    let (posterior, initial) = (noise.draw(len), noise.draw(len));
    let text = backend.embed(&[&open.tokenizer.ids(&job.prompt)]).unwrap().remove(0);
    let guidance = guidance_embedding(job.guidance_scale, backend.facts().guidance_width.unwrap());
    let (signal, spread) = weights(timesteps[0]);
    let row = EncodeRow {
        picture: &job.picture,
        posterior: Some(&posterior),
        latents: signal as f32,
        noise: spread as f32,
        initial: &initial,
    };
    let mut latents = backend.encode(&[row]).unwrap().remove(0);
    for (index, timestep) in timesteps.iter().enumerate() {
        let (signal, spread) = weights(*timestep);
        let scaled = 10.0 * f64::from(*timestep);
        let (skip, out) = (0.25 / (scaled * scaled + 0.25), scaled / (scaled * scaled + 0.25).sqrt());
        let next = timesteps.get(index + 1).map(|next| (weights(*next), noise.draw(len)));
        let keep = next.as_ref().map_or(1.0, |((signal, _), _)| *signal);
        let mut row = [StepRow {
            latents: &mut latents,
            timestep: *timestep,
            text: &text,
            guidance: &guidance,
            sample: ((out / signal + skip) * keep) as f32,
            output: (-out * spread / signal * keep) as f32,
            noise: next.as_ref().map(|((_, spread), noise)| (*spread as f32, noise.as_slice())),
        }];
        backend.step(&mut row).unwrap();
    }
    backend.decode(&[&latents]).unwrap().remove(0)
}

#[tokio::test]
async fn recorded_steps_and_strengths_run_at_the_recorded_timesteps() {
    let Some(engine) = engine(&model("tiny-lcm-onnx")) else { return };
    engine.ready().await.unwrap();
    let first = job(lone_cases().next().unwrap());
    let schedules = document()["schedules"]["valid"].as_array().unwrap();
    let mut seen = Deviations::default();
    let mut ran = 0;
    // Every third row of the table with the model's own 50 steps and few enough of them to run.
    for row in schedules.iter().filter(|row| row[0] == 50 && row[1].as_u64().unwrap() <= 6).step_by(3) {
        let timesteps: Vec<u32> = row[3].as_array().unwrap().iter().map(|step| step.as_u64().unwrap() as u32).collect();
        let job = Job {
            steps: row[1].as_u64().unwrap() as u32,
            strength: row[2].as_f64().unwrap(),
            seeds: vec![ran],
            ..first.clone()
        };
        let got = engine.submit(job.clone()).unwrap().await.unwrap().pictures.remove(0);
        let want = by_hand(&mut single().unwrap(), &job, &timesteps);
        seen.levels(("steps, strength", 1.0), got.rgb(), want.rgb());
        ran += 1;
    }
    assert!(ran >= 30, "{ran}");
    seen.check("table");
}

#[tokio::test]
async fn an_engine_without_a_usable_model_says_why_and_does_not_panic() {
    let settings = EngineSettings { model: Some(PathBuf::from("nowhere")), ..EngineSettings::default() };
    let engine =
        Engine::start(settings.clone(), move |progress| onnx::open(&settings, &LibraryPlaces::default(), progress));
    engine.ended().await;
    let state = engine.state().borrow().clone();
    let EngineState::Failed(error) = state else { panic!("{state:?}") };
    assert!(matches!(*error, OpenError::Model { .. }));
    assert_eq!(error.to_string(), "model cannot be opened: model folder nowhere does not exist");
}

#[tokio::test]
async fn the_state_shows_each_part_as_it_opens() {
    let Some(places) = places() else { return };
    let (tell, told) = std::sync::mpsc::channel();
    let progress = falgate::engine::LoadProgress::new(move |part| tell.send(part).unwrap());
    let settings = onnx::OnnxSettings::cpu(model("tiny-lcm-onnx"));
    drop(OnnxBackend::open(&settings, &places, &progress).unwrap());
    drop(progress);
    let heard: Vec<_> = told.into_iter().collect();
    let parts: Vec<_> = heard.iter().step_by(2).map(|part| part.part.as_ref()).collect();
    assert_eq!(parts, ["text_encoder", "vae_encoder", "unet", "vae_decoder"]);
    assert!(heard.iter().step_by(2).all(|part| part.took.is_none() && part.bytes > 100_000), "{heard:?}");
    assert!(heard.iter().skip(1).step_by(2).all(|part| part.took.is_some()), "{heard:?}");
}
