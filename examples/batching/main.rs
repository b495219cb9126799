//! What sharing the device is worth: measured on a model, and simulated for crowds and devices that are not at hand.
//!
//! ```sh
//! cargo build --release --example batching
//! target/release/examples/batching measure tests/models/tiny-lcm-onnx --size 256 > costs.txt
//! target/release/examples/batching simulate costs.txt
//! target/release/examples/batching paint tests/models/tiny-lcm-onnx --size 256 --painters 8
//! ```
//!
//! `simulate` is deterministic: the same table and seed give the same numbers anywhere.

#![expect(clippy::print_stdout, reason = "a program whose results are printed")]

mod crowd;
mod measure;
mod paint;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use falgate::engine::onnx::{LibraryPlaces, cached};
use falgate::engine::{EngineError, Provider};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Prints what painters get of a device by each policy, from a table of costs.
    Simulate(Simulate),
    /// Measures the costs of a model's calls and prints them as a table.
    Measure(Model),
    /// Lets painters paint on a model, alone after one another and sharing calls, and prints what they get.
    Paint(Paint),
}

#[derive(Debug, Args)]
struct Simulate {
    /// The table of costs, as `measure` prints it.
    table: PathBuf,
    /// Rows that share a call.
    #[arg(long, default_value_t = 8)]
    rows: usize,
    /// UNet evaluations a picture.
    #[arg(long, default_value_t = 4)]
    steps: usize,
    /// How long the painters paint, in seconds of the simulation.
    #[arg(long, default_value_t = 120)]
    span_s: u64,
    /// Decides their pauses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
struct Model {
    /// The model's folder.
    model: PathBuf,
    /// Side of the pictures in pixels.
    #[arg(long, default_value_t = 256)]
    size: u32,
    /// Rows that share a call, at most.
    #[arg(long, default_value_t = 8)]
    rows: usize,
    /// Threads of the processor; one a core without it.
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
}

#[derive(Debug, Args)]
struct Paint {
    #[command(flatten)]
    model: Model,
    /// How many paint.
    #[arg(long, default_value_t = 8)]
    painters: usize,
    /// UNet evaluations a picture.
    #[arg(long, default_value_t = 4)]
    steps: u32,
    /// How long each round takes, in seconds.
    #[arg(long, default_value_t = 15)]
    span_s: u64,
    /// Rounds of each kind, by turns.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
}

/// Why there are no numbers.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{path} cannot be read: {cause}")]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("line {line} is no cost: {text:?}")]
    Line { line: usize, text: String },
    #[error("{0}")]
    Model(Box<dyn std::error::Error + Send + Sync>),
    #[error("the engine gave no picture: {0}")]
    Engine(#[from] EngineError),
    #[error("no runtime for the painters: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Where the ONNX Runtime library is looked for.
fn places() -> LibraryPlaces {
    let variable = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    LibraryPlaces { configured: None, variable, caches: cached(&["target".into()], Provider::Cpu) }
}

fn main() -> ExitCode {
    let ran = match Arguments::parse().task {
        Task::Simulate(task) => crowd::run(&task),
        Task::Measure(model) => measure::run(&model),
        Task::Paint(task) => paint::run(&task),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            println!("batching: {fault}");
            ExitCode::FAILURE
        }
    }
}
