//! `falgate serve`.

use std::num::NonZeroUsize;

use falgate::config::Environment;
use tokio::runtime::{Builder, Runtime};

use super::arguments::Serve;
use super::exit::Failure;
use super::{configuration, logging};

/// Runs the gate until it is told to stop and has drained.
pub(super) fn run(serve: &Serve, environment: Environment) -> Result<(), Failure> {
    let environment = match serve.listen {
        Some(listen) => environment.with_flag("--listen", "gate.listen", format!("\"{listen}\"")),
        None => environment,
    };
    let config = configuration::load(&serve.file, &environment)?;
    forbid_core_dumps()?;
    logging::start(&config.telemetry);
    let runtime = runtime(config.gate.workers)?;
    drop((runtime, config, environment));
    Ok(())
}

/// Keeps the process's memory, and the key in it, out of core dumps and away from other processes of the same user.
fn forbid_core_dumps() -> Result<(), Failure> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|cause| Failure::Running { what: "cannot forbid core dumps", cause: cause.into() })
}

/// A runtime with so many workers, by default one a core. One worker needs no threads of its own.
fn runtime(workers: Option<NonZeroUsize>) -> Result<Runtime, Failure> {
    let mut builder = match workers.map(NonZeroUsize::get) {
        Some(1) => Builder::new_current_thread(),
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => Builder::new_multi_thread(),
    };
    builder
        .enable_all()
        .build()
        .map_err(|cause| Failure::Running { what: "cannot start the threads", cause: cause.into() })
}
