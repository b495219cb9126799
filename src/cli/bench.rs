//! `falgate model bench`.

use std::time::{Duration, Instant};

use falgate::config::Environment;
use falgate::engine::{
    BenchPlan, BenchRow, EngineSettings, LoadProgress, ModelFacts, PartProgress, Provider, bench, onnx,
};
use serde::Serialize;

use super::arguments::Bench;
use super::bench_table;
use super::exit::Failure;
use super::library;
use super::machine::{self, Machine};

/// Calls before the clock runs. CUDA records a graph in the third.
const WARM_UP: [(Provider, usize); 2] = [(Provider::Cpu, 1), (Provider::Cuda, 3)];

/// What was measured, where, and how.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: Model,
    pub(super) machine: Machine,
    pub(super) options: Options,
    pub(super) rows: Vec<BenchRow>,
}

/// The model that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) folder: std::path::PathBuf,
    pub(super) guidance_width: Option<usize>,
    pub(super) manifest: Option<onnx::ManifestReport>,
    /// How long opening took.
    pub(super) opened_s: f64,
}

/// With what it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Options {
    pub(super) provider: Provider,
    pub(super) device: String,
    pub(super) threads: Option<std::num::NonZeroUsize>,
    pub(super) runtime: String,
    #[serde(flatten)]
    pub(super) plan: BenchPlan,
}

/// Opens a model, measures it, and prints the table; progress goes to stderr.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(arguments: &Bench, environment: &Environment) -> Result<(), Failure> {
    let report = measure(arguments, environment)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("texts and numbers always serialise"));
    } else {
        print!("{}", bench_table::table(&report));
    }
    Ok(())
}

fn measure(arguments: &Bench, environment: &Environment) -> Result<Report, Failure> {
    let unavailable = |cause: Box<dyn std::error::Error + Send + Sync>| Failure::Unavailable {
        what: format!("{} cannot be measured", arguments.folder.display()),
        cause: Some(cause),
    };
    let manifest =
        onnx::manifest(&arguments.folder, onnx::Compare::Sizes).map_err(|error| unavailable(error.into()))?;
    let begin = Instant::now();
    let places = library::places(arguments.library.clone(), arguments.provider, environment);
    let mut opened = onnx::open(&settings(arguments), &places, &LoadProgress::new(opening))
        .map_err(|error| unavailable(error.into()))?;
    let opened_s = begin.elapsed().as_secs_f64();
    let runtime = onnx::Runtime::load(&places, arguments.threads).map_err(|error| unavailable(error.into()))?;
    let ModelFacts { guidance_width, device, size_multiple, .. } = opened.backend.facts().clone();
    if arguments.size == 0 || !arguments.size.is_multiple_of(size_multiple) {
        let what = format!("--size is {}, but this model's sides are multiples of {size_multiple}", arguments.size);
        return Err(Failure::Usage { what });
    }
    let plan = plan(arguments);
    let rows = bench(&mut opened, &plan, &mut |row| {
        row.process_bytes = machine::process_bytes();
        row.device_bytes = machine::device_bytes(arguments.provider, arguments.device);
        say(&bench_table::line(row));
    })
    .map_err(|error| unavailable(error.into()))?;
    Ok(Report {
        model: Model { folder: arguments.folder.clone(), guidance_width, manifest, opened_s },
        machine: Machine::here(arguments.provider, arguments.device),
        options: Options {
            provider: arguments.provider,
            device,
            threads: arguments.threads,
            runtime: runtime.describe(),
            plan,
        },
        rows,
    })
}

/// The engine's settings, as far as opening needs them.
fn settings(arguments: &Bench) -> EngineSettings {
    EngineSettings {
        model: Some(arguments.folder.clone()),
        provider: arguments.provider,
        devices: vec![arguments.device],
        cuda_libraries: arguments.cuda_libraries.clone(),
        threads: arguments.threads,
        max_batch: arguments.batch.iter().copied().max().unwrap_or(std::num::NonZeroUsize::MIN),
        ..EngineSettings::default()
    }
}

fn plan(arguments: &Bench) -> BenchPlan {
    let warm_up = WARM_UP.iter().find(|(provider, _)| *provider == arguments.provider).map_or(1, |(_, calls)| *calls);
    BenchPlan {
        side_px: arguments.size,
        batches: arguments.batch.clone(),
        steps: arguments.steps.clone(),
        warm_up,
        rounds: arguments.rounds,
        row_limit: Duration::from_secs(arguments.row_limit.into()),
    }
}

/// Says which part is being opened.
#[expect(clippy::needless_pass_by_value, reason = "as progress is reported")]
fn opening(part: PartProgress) {
    match part.took {
        None => say(&format!("opening {}, {:.1} MB", part.part, part.bytes as f64 / 1e6)),
        Some(took) => say(&format!("opened {} in {:.1} s", part.part, took.as_secs_f64())),
    }
}

#[expect(clippy::print_stderr, reason = "progress beside the command's answer")]
fn say(text: &str) {
    eprintln!("{text}");
}
