//! Commands over the rooms. Only here is anything printed, and only here is the process environment read.

mod admin_call;
mod arguments;
#[cfg(feature = "onnx")]
mod bench;
#[cfg(feature = "onnx")]
mod bench_table;
mod check;
mod configuration;
mod engine;
mod exit;
#[cfg(feature = "onnx")]
mod inspect;
mod key;
#[cfg(feature = "onnx")]
mod library;
mod limits;
mod limits_table;
mod logging;
#[cfg(feature = "onnx")]
mod machine;
mod serve;
mod token;

use std::process::ExitCode;

use clap::Parser;
use falgate::config::Environment;

use arguments::{Arguments, Command};

/// Reads the command line, does what it says, and gives the exit code that `falgate --help` documents.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::new(std::env::vars_os()).with_disk();
    let done = match &arguments.command {
        Command::Serve(serve) => serve::run(serve, environment),
        Command::Check(check) => check::run(check, &environment),
        Command::Key { command } => key::run(command),
        Command::Limits { command } => limits::run(command, &environment),
        Command::Token { command } => token::run(command, &environment),
        #[cfg(feature = "onnx")]
        Command::Model { command: arguments::ModelCommand::Inspect(inspect) } => inspect::run(inspect, &environment),
        #[cfg(feature = "onnx")]
        Command::Model { command: arguments::ModelCommand::Bench(bench) } => bench::run(bench, &environment),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure),
    }
}
