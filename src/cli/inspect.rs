//! `falgate model inspect`.

use falgate::config::Environment;
use falgate::engine::onnx::Compare;
use falgate::engine::{Provider, onnx};

use super::arguments::Inspect;
use super::exit::Failure;
use super::library;

/// Prints what a model folder holds; fails when the engine would serve it on no device.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(inspect: &Inspect, environment: &Environment) -> Result<(), Failure> {
    let places = library::places(inspect.library.clone(), Provider::Cpu, environment);
    let compare = if inspect.hashes { Compare::Hashes } else { Compare::Sizes };
    let report = onnx::inspect(&inspect.folder, &places, compare);
    if inspect.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("texts and numbers always serialise"));
    } else {
        println!("{report}");
    }
    if report.is_sound() {
        return Ok(());
    }
    let what = format!("{} cannot be served, the report says why", inspect.folder.display());
    Err(Failure::Unavailable { what, cause: None })
}
