//! On a real model: whatever shares its calls, a row is what it is alone, within the tolerance of a picture.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::Mutex;

use falgate::engine::{Engine, EngineSettings, Job, Opened, onnx};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::engine_joining::Joins;
use super::engine_mixed::{Joining, joining};
use super::onnx_support::{Deviations, assembled, model, places};

/// Levels by which a picture may differ from its lone run: the kernels of another batch add up in another order.
const LEVELS: f64 = 1.0;
/// Batches of each model, of two to five jobs each.
const CASES: u32 = 12;

/// Runs fuzzed batches of a model and their rows alone; one timestep or several of them meet in a call.
fn mixed(folder: &Path, (timesteps, title): (usize, &str)) {
    let Some(places) = places() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let settings = EngineSettings {
        model: Some(folder.to_owned()),
        warm_up_px: NonZeroU32::new(64).unwrap(),
        max_batch: NonZeroUsize::new(4).unwrap(),
        ..EngineSettings::default()
    };
    let joins = Joins::default();
    let (theirs, wrap) = (settings.clone(), joins.clone());
    let engine = Engine::start(settings, move |progress| {
        let opened = onnx::open(&theirs, &places, progress)?;
        Ok(Opened { backend: wrap.wrap(opened.backend), ..opened })
    });
    runtime.block_on(engine.ready()).unwrap();
    let seen = Mutex::new(Deviations::default());
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let strategy = prop::collection::vec(joining(3), 2..6);
    let ran = runner.run(&strategy, |jobs: Vec<Joining>| {
        let jobs: Vec<(usize, Job)> = jobs.iter().map(Joining::job).collect();
        runtime.block_on(async {
            let together = joins.run(&engine, jobs.clone()).await;
            for ((_, job), pictures) in jobs.into_iter().zip(together) {
                let alone = engine.submit(job).unwrap().await.unwrap().pictures;
                seen.lock().unwrap().levels(("mixed row", LEVELS), pictures[0].rgb(), alone[0].rgb());
            }
        });
        Ok(())
    });
    ran.unwrap();
    seen.into_inner().unwrap().check(title);
    assert_eq!(joins.widest_mix().min(2), timesteps, "{title}");
    engine.close();
    runtime.block_on(engine.ended());
}

#[test]
fn a_row_of_any_mixed_batch_equals_the_lone_run_on_a_model() {
    mixed(&model("tiny-lcm-onnx"), (1, "one timestep a call"));
}

#[test]
fn a_row_of_any_mixed_batch_equals_the_lone_run_where_each_row_has_its_timestep() {
    let folder = assembled(&[("unet", "variants/unet-batch-timestep")]);
    mixed(folder.path(), (2, "a timestep a row"));
}
