//! Noise against draws recorded from torch, and the order in which a job draws it.

use std::sync::{Arc, Mutex};

use falgate::engine::{
    Backend, BackendError, EncodeRow, Engine, FakeBackend, FakeSettings, FakeTokenizer, Job, Latents, ModelFacts,
    Opened, Picture, Posterior, StepRow, TextRow, TokenIds, TorchNoise,
};

use super::engine_support::{deviation, document, job, picture, quick, recorded, result, within};

#[test]
fn a_seed_draws_what_torch_draws() {
    for case in document()["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut noise = TorchNoise::new(case["seed"].as_u64().unwrap());
        let steps = (0..case["steps"].as_u64().unwrap() - 1).map(|i| format!("step{i}"));
        let draws: Vec<String> = ["posterior", "initial"].map(str::to_owned).into_iter().chain(steps).collect();
        assert_eq!(draws.len() as u64, case["noise_draws"].as_u64().unwrap());
        for draw in draws {
            let want = recorded(&format!("case.{name}.noise.{draw}"));
            assert!(deviation(&noise.draw(want.len()), &want) < 1e-6, "{name} {draw}");
        }
    }
}

#[test]
fn only_32_bits_of_a_seed_count() {
    let draw = |seed| TorchNoise::new(seed).draw(16);
    assert_eq!(draw(7), draw(7 + (1 << 32)));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn noise_is_unit_normal() {
    let values = TorchNoise::new(11).draw(1 << 16);
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
}

/// What one run handed to the backend.
#[derive(Default)]
struct Heard {
    posterior: Vec<Option<Vec<f32>>>,
    initial: Vec<Vec<f32>>,
    steps: Vec<Option<Vec<f32>>>,
    timesteps: Vec<u32>,
    guidance: Vec<Vec<f32>>,
}

/// A fake that writes down the rows it gets.
struct Recorder {
    fake: FakeBackend,
    heard: Arc<Mutex<Heard>>,
}

impl Backend for Recorder {
    fn facts(&self) -> &ModelFacts {
        self.fake.facts()
    }

    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError> {
        self.fake.embed(prompts)
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError> {
        let mut heard = self.heard.lock().unwrap();
        for row in rows {
            heard.posterior.push(row.posterior.map(<[f32]>::to_vec));
            heard.initial.push(row.initial.to_vec());
        }
        self.fake.encode(rows)
    }

    fn step(&mut self, rows: &mut [StepRow<'_>]) -> Result<(), BackendError> {
        let mut heard = self.heard.lock().unwrap();
        for row in &*rows {
            heard.steps.push(row.noise.map(|(_, noise)| noise.to_vec()));
            heard.timesteps.push(row.timestep);
            heard.guidance.push(row.guidance.to_vec());
        }
        self.fake.step(rows)
    }

    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError> {
        self.fake.decode(rows)
    }

    fn read_latents(&mut self, latents: &Latents) -> Result<Vec<f32>, BackendError> {
        self.fake.read_latents(latents)
    }

    fn read_text(&mut self, text: &TextRow) -> Result<Vec<f32>, BackendError> {
        self.fake.read_text(text)
    }
}

/// Runs one job and gives what the backend heard of it.
async fn heard(job: Job) -> Heard {
    let mut settings = FakeSettings::default();
    settings.facts.guidance_width = Some(32);
    let (fake, _control) = FakeBackend::new(settings);
    let heard = Arc::new(Mutex::new(Heard::default()));
    let backend = Box::new(Recorder { fake, heard: Arc::clone(&heard) });
    let engine = Engine::start(quick(), |_| Ok(Opened { backend, tokenizer: Box::new(FakeTokenizer::new(77)) }));
    within(engine.ready()).await.unwrap();
    *heard.lock().unwrap() = Heard::default();
    result(engine.submit(job).unwrap()).await.unwrap();
    std::mem::take(&mut *heard.lock().unwrap())
}

#[tokio::test]
async fn a_job_draws_posterior_start_and_steps_in_torchs_order() {
    for case in document()["cases"].as_array().unwrap().iter().filter(|case| case["name"] != "batch") {
        let name = case["name"].as_str().unwrap();
        let noise = |draw: &str| recorded(&format!("case.{name}.noise.{draw}"));
        let side = |i: usize| case["size"][i].as_u64().unwrap() as u32;
        let heard = heard(Job {
            picture: picture(side(0), side(1), 9),
            steps: case["steps"].as_u64().unwrap() as u32,
            strength: case["strength"].as_f64().unwrap(),
            guidance_scale: case["guidance_scale"].as_f64().unwrap(),
            ..job(case["seed"].as_u64().unwrap())
        })
        .await;
        assert!(deviation(heard.posterior[0].as_ref().unwrap(), &noise("posterior")) < 1e-6, "{name}");
        assert!(deviation(&heard.initial[0], &noise("initial")) < 1e-6, "{name}");
        for (i, step) in heard.steps.iter().enumerate() {
            assert_eq!(step.is_none(), i + 1 == heard.steps.len());
            if let Some(step) = step {
                assert!(deviation(step, &noise(&format!("step{i}"))) < 1e-6, "{name} {i}");
            }
            let guidance = recorded(&format!("case.{name}.w_embedding"));
            assert!(deviation(&heard.guidance[i], &guidance) < 2e-3, "{name} {i}");
        }
        let timesteps: Vec<u64> = heard.timesteps.iter().map(|timestep| u64::from(*timestep)).collect();
        assert_eq!(serde_json::json!(timesteps), case["timesteps"]);
    }
}

#[tokio::test]
async fn the_mode_of_the_posterior_draws_and_drops_its_noise() {
    let sampled = heard(job(5)).await;
    let mode = heard(Job { posterior: Posterior::Mode, ..job(5) }).await;
    assert!(sampled.posterior[0].is_some() && mode.posterior[0].is_none());
    assert_eq!(sampled.initial, mode.initial);
    assert_eq!(sampled.steps, mode.steps);
}

#[tokio::test]
async fn every_picture_of_a_job_has_its_own_generator() {
    let pair = heard(Job { seeds: vec![5, 6], ..job(5) }).await;
    let five = heard(job(5)).await;
    let six = heard(Job { seeds: vec![6], ..job(5) }).await;
    assert_eq!(pair.initial, [five.initial, six.initial].concat());
}
