//! Schedule and guidance against values recorded from diffusers.

use falgate::engine::{Linear, Prediction, Schedule, ScheduleError, ScheduleFacts, guidance_embedding};
use proptest::prelude::*;
use serde_json::Value;

use super::engine_support::{deviation, document, recorded};

fn schedule(original_steps: u32) -> Schedule {
    Schedule::new(&ScheduleFacts { original_steps, ..ScheduleFacts::default() }).unwrap()
}

fn number(value: &Value) -> u32 {
    value.as_u64().unwrap() as u32
}

/// Recorded `(original steps, steps, strength, rest)`.
fn pairs(kind: &str) -> impl Iterator<Item = (u32, u32, f64, &'static Value)> {
    let rows = document()["schedules"][kind].as_array().unwrap();
    rows.iter().map(|row| (number(&row[0]), number(&row[1]), row[2].as_f64().unwrap(), &row[3]))
}

#[test]
fn every_recorded_schedule_is_met_exactly() {
    let mut count = 0;
    for (original, steps, strength, want) in pairs("valid") {
        let want: Vec<u32> = want.as_array().unwrap().iter().map(number).collect();
        assert_eq!(schedule(original).timesteps(steps, strength), Ok(want), "{original} {steps} {strength}");
        count += 1;
    }
    assert_eq!(count, 634);
}

#[test]
fn every_recorded_refusal_is_one_and_a_raised_strength_cures_it() {
    let mut count = 0;
    for (original, steps, strength, _) in pairs("invalid") {
        let schedule = schedule(original);
        assert!(schedule.timesteps(steps, strength).is_err(), "{original} {steps} {strength}");
        match schedule.raised_strength(steps, strength) {
            Ok(raised) => assert_eq!(schedule.timesteps(steps, raised).unwrap().len(), steps as usize),
            Err(error) => assert!(steps > original, "{error}"),
        }
        count += 1;
    }
    assert_eq!(count, 191);
}

#[test]
fn an_awkward_fraction_is_raised_just_enough() {
    let schedule = schedule(50);
    // 50 · (29 / 50) is 28.999… in double precision.
    let raised = schedule.raised_strength(29, 0.0).unwrap();
    assert!((raised - 0.58).abs() < 1e-12);
    assert_eq!(schedule.timesteps(29, raised).unwrap().len(), 29);
    assert_eq!(schedule.raised_strength(4, 0.5), Ok(0.5));
    assert_eq!(schedule.raised_strength(4, 0.01), Ok(0.08));
}

#[test]
fn nonsense_is_refused_by_name() {
    let schedule = schedule(50);
    assert_eq!(schedule.timesteps(0, 0.5), Err(ScheduleError::NoSteps));
    assert!(matches!(schedule.timesteps(1, f64::NAN), Err(ScheduleError::Strength { .. })));
    assert!(matches!(schedule.timesteps(1, 1.01), Err(ScheduleError::Strength { .. })));
    let refused = schedule.timesteps(5, 0.08);
    assert_eq!(refused, Err(ScheduleError::TooManySteps { steps: 5, strength: 0.08, room: 4 }));
    for original_steps in [0, 1001] {
        let facts = ScheduleFacts { original_steps, ..ScheduleFacts::default() };
        assert!(matches!(Schedule::new(&facts), Err(ScheduleError::Original { .. })));
    }
    for beta_end in [1e-5, 1.0, f64::NAN] {
        let facts = ScheduleFacts { beta_end, ..ScheduleFacts::default() };
        assert!(matches!(Schedule::new(&facts), Err(ScheduleError::Betas { .. })));
    }
}

#[test]
fn cumulative_alphas_are_the_recorded_ones() {
    let want = recorded("alphas_cumprod");
    let got: Vec<f32> = schedule(50).alphas_cumprod().iter().map(|alpha| *alpha as f32).collect();
    assert!(deviation(&got, &want) < 1e-6);
    let relative = got.iter().zip(&want).map(|(got, want)| (got / want - 1.0).abs());
    assert!(relative.fold(0.0, f32::max) < 2e-6);
}

#[test]
fn boundary_scalings_are_the_recorded_ones() {
    let schedule = schedule(50);
    for row in document()["boundary"]["rows"].as_array().unwrap() {
        let boundary = schedule.boundary(number(&row[0]));
        assert!((boundary.skip - row[1].as_f64().unwrap()).abs() < 1e-7, "{row}");
        assert!((boundary.out - row[2].as_f64().unwrap()).abs() < 2e-7, "{row}");
    }
}

#[test]
fn steps_over_recorded_outputs_give_the_recorded_latents() {
    let schedule = schedule(50);
    for case in document()["cases"].as_array().unwrap() {
        let key = format!("case.{}.", case["name"].as_str().unwrap());
        let plan = schedule.plan(number(&case["steps"]), case["strength"].as_f64().unwrap()).unwrap();
        for (i, step) in plan.iter().enumerate() {
            assert_eq!(step.timestep, number(&case["timesteps"][i]));
            let tensor = |name: &str| recorded(&format!("{key}step{i}.{name}"));
            let (x, output) = (tensor("in"), tensor("model_output"));
            let Linear { sample, output: weight } = schedule.denoised(step.timestep);
            let denoised = combine(&x, sample as f32, &output, weight as f32);
            assert!(deviation(&denoised, &tensor("denoised")) < 5e-5, "{key}{i}");
            let mut next = combine(&x, step.sample, &output, step.output);
            assert_eq!(step.noise.is_none(), i + 1 == plan.len());
            if let Some(weight) = step.noise {
                let noise = recorded(&format!("{key}noise.step{i}"));
                next = combine(&next, 1.0, &noise, weight);
            }
            assert!(deviation(&next, &tensor("out")) < 5e-5, "{key}{i}");
        }
    }
}

fn combine(x: &[f32], sample: f32, y: &[f32], output: f32) -> Vec<f32> {
    x.iter().zip(y).map(|(x, y)| sample * x + output * y).collect()
}

#[test]
fn guidance_is_embedded_as_recorded() {
    let scales = document()["guidance_scales"].as_array().unwrap();
    for width in [32, 256, 512] {
        let want = recorded(&format!("w_embedding.{width}"));
        for (scale, want) in scales.iter().zip(want.chunks_exact(width)) {
            let got = guidance_embedding(scale.as_f64().unwrap(), width);
            assert!(deviation(&got, want) < 2e-3, "{scale} {width}");
        }
    }
}

#[test]
fn guidance_is_clamped_and_odd_widths_end_in_zero() {
    assert_eq!(guidance_embedding(1e9, 256), guidance_embedding(20.0, 256));
    assert_eq!(guidance_embedding(-3.0, 256), guidance_embedding(0.0, 256));
    let odd = guidance_embedding(8.0, 7);
    assert_eq!(odd[..6], guidance_embedding(8.0, 6));
    assert_eq!(odd[6], 0.0);
    assert!(guidance_embedding(8.0, 0).is_empty());
    assert!(guidance_embedding(8.0, 3).iter().all(|value| value.is_finite()));
}

proptest! {
    #[test]
    fn timesteps_fall_and_stay_in_the_training(original in 1_u32..=1000, steps in 1_u32..=1000, strength in 0.0..=1.0) {
        let schedule = schedule(original);
        match schedule.raised_strength(steps, strength) {
            Ok(raised) => {
                prop_assert!(raised >= strength && raised <= 1.0);
                let timesteps = schedule.timesteps(steps, raised).unwrap();
                prop_assert_eq!(timesteps.len(), steps as usize);
                prop_assert!(timesteps.iter().all(|timestep| *timestep < 1000));
                prop_assert!(timesteps.windows(2).all(|pair| pair[0] > pair[1]));
            }
            Err(_) => prop_assert!(steps > original),
        }
    }

    #[test]
    fn every_kind_of_prediction_finds_the_same_clean_latents(timestep in 0_u32..1000, clean in -3.0..3.0_f64, noise in -3.0..3.0_f64) {
        for prediction in [Prediction::Epsilon, Prediction::Velocity, Prediction::Sample] {
            let schedule = Schedule::new(&ScheduleFacts { prediction, ..ScheduleFacts::default() }).unwrap();
            let mix = schedule.mix(timestep);
            let noisy = mix.clean * clean + mix.noise * noise;
            let output = match prediction {
                Prediction::Epsilon => noise,
                Prediction::Velocity => mix.clean * noise - mix.noise * clean,
                Prediction::Sample => clean,
            };
            let Linear { sample, output: weight } = schedule.predicted(timestep);
            let found: f64 = sample * noisy + weight * output;
            prop_assert!((found - clean).abs() < 1e-9, "{:?}: {} is not {}", prediction, found, clean);
        }
    }
}
