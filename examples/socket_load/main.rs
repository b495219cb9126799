//! Load on the gate's sockets, and the measurements that `docs/MEASUREMENTS.md` reports.
//!
//! `scripts/bench-sockets.sh` and `scripts/soak-sockets.sh` start the parties and run this program; by hand:
//!
//! ```sh
//! cargo build --release --example socket_load
//! target/release/examples/socket_load help
//! ```
//!
//! It speaks to addresses of this machine only, in counts and times that its arguments bound, and ends by itself. Exit code 1
//! means that a goal was missed or a check failed, after the numbers were printed.

#![expect(clippy::print_stdout, reason = "a program whose results are printed")]

mod arguments;
mod device;
mod error;
mod fake_fal;
mod frame;
mod gate;
mod idle;
mod latency;
mod message;
mod painters;
mod picture;
mod place;
mod process;
mod relay;
mod samples;
mod soak;
mod socket;
mod token;
mod tunnel;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Task};
use error::LoadError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("socket_load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<(), LoadError> {
    // The fake fal and the clients take one thread each, as the gate in the comparisons does; the gate here is as configured.
    if let Task::Gate(task) = task {
        return gate::run(task);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match task {
            Task::Gate(_) => Ok(()),
            Task::Fal(task) => fake_fal::run(task).await,
            Task::Latency(task) => latency::run(task).await,
            Task::Relay(task) => relay::run(task).await,
            Task::Painters(task) => painters::run(task).await,
            Task::Soak(task) => soak::run(task).await,
            Task::Idle(task) => idle::run(task).await,
            Task::Tunnel(task) => tunnel::run(task).await,
        }
    })
}
