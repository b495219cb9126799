//! Jobs that a model cannot run are refused before they cost anything, and say why.

use falgate::engine::{EngineError, FakePart, Job};

use super::engine_support::{engine, job, painted, picture, quick};

#[tokio::test]
async fn an_unfit_job_is_refused_with_the_value_at_fault() {
    let (engine, control) = engine(quick()).await;
    let cases = [
        (Job { picture: picture(72, 64, 0), ..job(1) }, "72x64"),
        (Job { picture: picture(64, 8, 0), ..job(1) }, "64x8"),
        (Job { steps: 0, ..job(1) }, "steps must be at least 1"),
        (Job { steps: 51, ..job(1) }, "51 steps"),
        (Job { steps: u32::MAX, ..job(1) }, "4294967295 steps"),
        (Job { strength: 1.5, ..job(1) }, "strength 1.5"),
        (Job { strength: -0.1, ..job(1) }, "strength -0.1"),
        (Job { strength: f64::NAN, ..job(1) }, "strength NaN"),
        (Job { guidance_scale: f64::INFINITY, ..job(1) }, "guidance scale is inf"),
        (Job { guidance_scale: f64::NAN, ..job(1) }, "guidance scale is NaN"),
        (Job { seeds: Vec::new(), ..job(1) }, "no seed"),
        (Job { seeds: (0..9).collect(), ..job(1) }, "9 pictures"),
    ];
    for (job, said) in cases {
        let Err(EngineError::Unfit { what }) = engine.submit(job) else { panic!("{said} was admitted") };
        assert!(what.contains(said), "{what:?} does not say {said:?}");
    }
    assert!(control.calls().is_empty());
}

#[tokio::test]
async fn a_low_strength_is_raised_to_what_the_steps_need() {
    let (engine, control) = engine(quick()).await;
    for (steps, timesteps) in [(1, vec![19]), (4, vec![79, 59, 39, 19])] {
        control.clear();
        painted(engine.submit(Job { strength: 0.0, steps, ..job(1) }).unwrap()).await;
        let ran: Vec<u32> = control.calls_of(FakePart::Step).iter().flat_map(|call| call.timesteps.clone()).collect();
        assert_eq!(ran, timesteps);
    }
}

#[tokio::test]
async fn every_step_runs_whatever_the_strength() {
    let (engine, control) = engine(quick()).await;
    for strength in [0.0, 0.3, 1.0] {
        control.clear();
        painted(engine.submit(Job { strength, steps: 3, ..job(1) }).unwrap()).await;
        assert_eq!(control.calls_of(FakePart::Step).len(), 3);
    }
}
