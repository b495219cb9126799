//! Whatever shares its calls, a row is what it is alone; and no row ever sees what is another's.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use falgate::engine::{
    Backend, BackendError, EncodeRow, Engine, EngineError, EngineSettings, FakeBackend, FakeSettings, FakeTokenizer,
    Job, Lane, Latents, ModelFacts, Opened, Order, Picture, Schedule, StepRow, TextRow, Timesteps, TokenIds,
    Tokenize as _, TorchNoise, guidance_embedding,
};
use proptest::prelude::*;

use super::engine_joining::{Comer, Joins};
use super::engine_support::{alone, job, painted, picture, quick, within};

/// A job in plain numbers, and the UNet call at which it joins. Jobs themselves do not show their prompts.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    joins: usize,
    size: (u32, u32),
    shade: u8,
    steps: u32,
    strength: f64,
    guidance: f64,
    prompt: u8,
    seed: u64,
}

impl Joining {
    pub(crate) fn job(&self) -> (usize, Job) {
        let job = Job {
            picture: picture(self.size.0, self.size.1, self.shade),
            prompt: format!("prompt {}", self.prompt),
            strength: self.strength,
            steps: self.steps,
            guidance_scale: self.guidance,
            ..job(self.seed)
        };
        (self.joins, job)
    }
}

pub(crate) fn joining(most_steps: u32) -> impl Strategy<Value = Joining> {
    let size = prop_oneof![3 => Just((64, 64)), 1 => Just((128, 64))];
    let parts = (0_usize..12, size, any::<u8>(), 1..=most_steps, 0.0..=1.0, 0.0..20.0, 0_u8..4, 0_u64..1_000_000);
    parts.prop_map(|(joins, size, shade, steps, strength, guidance, prompt, seed)| Joining {
        joins,
        size,
        shade,
        steps,
        strength,
        guidance,
        prompt,
        seed,
    })
}

/// How a device takes rows: how many, and whether their timesteps may differ.
fn device() -> impl Strategy<Value = (usize, Timesteps)> {
    (1_usize..6, prop_oneof![Just(Timesteps::PerRow), Just(Timesteps::Shared)])
}

/// Whose a job is, how it stands to older ones, and after how many calls it is given up.
fn fate() -> impl Strategy<Value = (usize, Order, Option<usize>)> {
    let order = prop_oneof![2 => Just(Order::InTurn), 2 => Just(Order::NewestFirst), 1 => Just(Order::Supersedes)];
    (0_usize..3, order, prop::option::weighted(0.4, 0_usize..8))
}

fn facts(timesteps: Timesteps) -> ModelFacts {
    ModelFacts { timesteps, ..FakeSettings::default().facts }
}

fn settings(rows: usize) -> EngineSettings {
    EngineSettings { max_batch: NonZeroUsize::new(rows).unwrap(), ..quick() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_row_of_any_mixed_batch_equals_the_lone_run(
        jobs in prop::collection::vec((joining(6), 1_usize..4), 1..9),
        (rows, timesteps) in device(),
    ) {
        runtime().block_on(async {
            let jobs: Vec<(usize, Job)> = jobs
                .into_iter()
                .map(|(joining, pictures)| {
                    let (joins, job) = joining.job();
                    let seeds = (job.seeds[0]..).take(pictures).collect();
                    (joins, Job { seeds, ..job })
                })
                .collect();
            let joins = Joins::default();
            let (opened, _control) = FakeBackend::open(FakeSettings { facts: facts(timesteps), ..FakeSettings::default() });
            let opened = Opened { backend: joins.wrap(opened.backend), ..opened };
            let engine = Engine::start(settings(rows), |_| Ok(opened));
            within(engine.ready()).await.unwrap();
            let together = joins.run(&engine, jobs.clone()).await;
            for ((_, job), pictures) in jobs.into_iter().zip(together) {
                assert!(pictures == alone(job).await);
            }
        });
    }

    #[test]
    fn whoever_leaves_or_is_superseded_disturbs_nobody(
        jobs in prop::collection::vec((joining(6), fate()), 2..12),
        (rows, timesteps) in device(),
    ) {
        runtime().block_on(async {
            let lanes: [Lane; 3] = std::array::from_fn(|_| Lane::new());
            let comers: Vec<Comer> = jobs
                .into_iter()
                .map(|(joining, (lane, order, stays))| {
                    let (joins, job) = joining.job();
                    Comer { joins, leaves: stays.map(|calls| joins + calls), job: Job { lane: lanes[lane], order, ..job } }
                })
                .collect();
            let joins = Joins::default();
            let (opened, _control) = FakeBackend::open(FakeSettings { facts: facts(timesteps), ..FakeSettings::default() });
            let opened = Opened { backend: joins.wrap(opened.backend), ..opened };
            let engine = Engine::start(settings(rows), |_| Ok(opened));
            within(engine.ready()).await.unwrap();
            let outcomes = joins.outcomes(&engine, comers.clone()).await;
            for (comer, outcome) in comers.iter().zip(outcomes) {
                match outcome {
                    None => assert!(comer.leaves.is_some()),
                    Some(Ok(pictures)) => assert!(pictures == alone(comer.job.clone()).await),
                    Some(Err(EngineError::Superseded)) => {
                        let may = |other: &Comer| {
                            other.job.lane == comer.job.lane && other.job.order == Order::Supersedes && other.joins >= comer.joins
                        };
                        assert!(comers.iter().filter(|other| may(other)).count() > usize::from(may(comer)));
                    }
                    Some(Err(other)) => panic!("{other}"),
                }
            }
            assert!(alone(job(1)).await == vec![painted(engine.submit(job(1)).unwrap()).await], "the engine serves on");
        });
    }

    #[test]
    fn no_row_ever_sees_anothers_picture_prompt_or_noise(
        jobs in prop::collection::vec(joining(5), 2..10),
        (rows, timesteps) in device(),
    ) {
        runtime().block_on(async {
            let mut jobs: Vec<(usize, Job)> = jobs.iter().map(Joining::job).collect();
            // A picture says whose row it is, so each has one of its own.
            let mut shades = HashSet::new();
            jobs.retain(|(_, job)| shades.insert(hash(job.picture.rgb())));
            let (joins, faults) = (Joins::default(), Arc::new(Mutex::new(Vec::new())));
            let stamper = Stamper::new(facts(timesteps), &jobs, Arc::clone(&faults));
            let tokenizer = Box::new(FakeTokenizer::new(stamper.facts.prompt_tokens));
            let opened = Opened { backend: joins.wrap(Box::new(stamper)), tokenizer };
            let engine = Engine::start(settings(rows), |_| Ok(opened));
            within(engine.ready()).await.unwrap();
            let together = joins.run(&engine, jobs.clone()).await;
            assert_eq!(*faults.lock().unwrap(), Vec::<String>::new());
            for ((_, job), pictures) in jobs.iter().zip(together) {
                assert!(pictures == [job.picture.clone()], "a picture went to somebody else");
            }
        });
    }
}

#[test]
fn a_stamp_notices_what_is_anothers() {
    let (ours, theirs) = (Job { prompt: "ours".to_owned(), ..job(1) }, Job { prompt: "theirs".to_owned(), ..job(2) });
    let faults = Arc::new(Mutex::new(Vec::new()));
    let jobs = [(0, ours.clone()), (0, theirs.clone())];
    let mut stamper = Stamper::new(facts(Timesteps::PerRow), &jobs, Arc::clone(&faults));
    let mut noise = TorchNoise::new(1);
    let (posterior, initial) = (noise.draw(256), noise.draw(256));
    let row =
        EncodeRow { picture: &ours.picture, posterior: Some(&posterior), latents: 1.0, noise: 1.0, initial: &initial };
    let mut latents = stamper.encode(&[row]).unwrap().remove(0);
    assert!(faults.lock().unwrap().is_empty());
    let tokens = FakeTokenizer::new(77).encode("theirs");
    let text = stamper.embed(&[&tokens]).unwrap().remove(0);
    let fresh = TorchNoise::new(2).draw(256);
    let guidance = guidance_embedding(3.0, 256);
    let row = StepRow {
        latents: &mut latents,
        timestep: 7,
        text: &text,
        guidance: &guidance,
        sample: 1.0,
        output: 1.0,
        noise: Some((1.0, &fresh)),
    };
    stamper.step(&mut [row]).unwrap();
    assert_eq!(*faults.lock().unwrap(), ["text", "guidance", "timestep", "noise"]);
}

fn hash(values: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    hasher.finish()
}

/// What the rows of a job may see.
struct Own {
    picture: Picture,
    tokens: TokenIds,
    guidance: Vec<f32>,
    timesteps: Vec<u32>,
    noise: TorchNoise,
}

/// Latents that know whose they are.
struct Stamp {
    owner: u64,
    noise: TorchNoise,
    taken: usize,
}

/// A backend that stamps latents with the picture that they were made of, and takes note of all that comes with them later and
/// is not of the same job.
struct Stamper {
    facts: ModelFacts,
    own: HashMap<u64, Own>,
    faults: Arc<Mutex<Vec<String>>>,
}

impl Stamper {
    fn new(facts: ModelFacts, jobs: &[(usize, Job)], faults: Arc<Mutex<Vec<String>>>) -> Self {
        let schedule = Schedule::new(&facts.schedule).unwrap();
        let tokenizer = FakeTokenizer::new(facts.prompt_tokens);
        let own = |(_, job): &(usize, Job)| {
            let strength = schedule.raised_strength(job.steps, job.strength).unwrap();
            let own = Own {
                picture: job.picture.clone(),
                tokens: tokenizer.encode(&job.prompt),
                guidance: guidance_embedding(job.guidance_scale, facts.guidance_width.unwrap()),
                timesteps: schedule.timesteps(job.steps, strength).unwrap(),
                noise: TorchNoise::new(job.seeds[0]),
            };
            (hash(job.picture.rgb()), own)
        };
        Self { own: jobs.iter().map(own).collect(), facts, faults }
    }

    fn check(&self, what: &str, is_own: bool) {
        if !is_own {
            self.faults.lock().unwrap().push(what.to_owned());
        }
    }
}

impl Backend for Stamper {
    fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    fn embed(&mut self, prompts: &[&TokenIds]) -> Result<Vec<TextRow>, BackendError> {
        Ok(prompts.iter().map(|tokens| TextRow(Arc::new((*tokens).clone()))).collect())
    }

    fn encode(&mut self, rows: &[EncodeRow<'_>]) -> Result<Vec<Latents>, BackendError> {
        let encode = |row: &EncodeRow<'_>| {
            let owner = hash(row.picture.rgb());
            let mut noise = TorchNoise::new(0);
            // The warm-up's picture is nobody's.
            if let Some(own) = self.own.get(&owner) {
                noise = own.noise.clone();
                self.check("posterior", row.posterior == Some(&noise.draw(row.initial.len())));
                self.check("start noise", row.initial == noise.draw(row.initial.len()));
            }
            let (width, height) = (row.picture.width() / 8, row.picture.height() / 8);
            Latents { width, height, data: Box::new(Stamp { owner, noise, taken: 0 }) }
        };
        Ok(rows.iter().map(encode).collect())
    }

    fn step(&mut self, rows: &mut [StepRow<'_>]) -> Result<(), BackendError> {
        let size = |row: &StepRow<'_>| (row.latents.width, row.latents.height);
        self.check("size", rows.windows(2).all(|pair| size(&pair[0]) == size(&pair[1])));
        for row in rows {
            let stamp: &mut Stamp = row.latents.data.downcast_mut().unwrap();
            let Some(own) = self.own.get(&stamp.owner) else { continue };
            self.check("text", row.text.0.downcast_ref::<TokenIds>() == Some(&own.tokens));
            self.check("guidance", row.guidance == own.guidance);
            self.check("timestep", own.timesteps.get(stamp.taken) == Some(&row.timestep));
            stamp.taken += 1;
            self.check("last step", row.noise.is_none() == (stamp.taken == own.timesteps.len()));
            if let Some((_, fresh)) = row.noise {
                self.check("noise", fresh == stamp.noise.draw(fresh.len()));
            }
        }
        Ok(())
    }

    fn decode(&mut self, rows: &[&Latents]) -> Result<Vec<Picture>, BackendError> {
        let decode = |row: &&Latents| {
            let stamp: &Stamp = row.data.downcast_ref().unwrap();
            let Some(own) = self.own.get(&stamp.owner) else { return picture(row.width * 8, row.height * 8, 0) };
            self.check("steps", stamp.taken == own.timesteps.len());
            own.picture.clone()
        };
        Ok(rows.iter().map(decode).collect())
    }

    fn read_latents(&mut self, _latents: &Latents) -> Result<Vec<f32>, BackendError> {
        Ok(Vec::new())
    }

    fn read_text(&mut self, _text: &TextRow) -> Result<Vec<f32>, BackendError> {
        Ok(Vec::new())
    }
}
