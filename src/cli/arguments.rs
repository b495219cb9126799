//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  falgate serve --config config/demo.toml        start a gate
  falgate check --config /etc/falgate.toml       name every fault of a configuration, start nothing
  falgate model inspect models/lcm-sd15          say what a model folder holds, and what it lacks
  FALGATE__GATE__WORKERS=4 falgate serve         set one key from the environment

Exit codes:
   0  done
   1  failed while running, or a port is not to be had
   2  the command line is wrong
  69  the model, its library or its device cannot be used
  78  the configuration is wrong, or something that it names cannot be used";

/// A guarded key proxy for fal.ai and a self-hosted real-time image engine.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Start the gate and serve until SIGTERM or Ctrl-C
    Serve(Serve),
    /// Name every fault of a configuration and of the files it names; start nothing
    Check(Check),
    /// Look at models
    #[cfg(feature = "onnx")]
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Listen here, whatever the configuration says
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) file: ConfigFile,
}

/// Which file is the configuration. Without one, the built-in values and the environment are.
#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// Configuration file; without one, the built-in values hold and FALGATE__… variables
    #[arg(long, short, value_name = "FILE", env = "FALGATE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

#[cfg(feature = "onnx")]
#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Say what a model folder holds: parts, names, ranks, types, sizes, and what is missing
    Inspect(Inspect),
}

#[cfg(feature = "onnx")]
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The model's folder, as optimum exports it
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// The ONNX Runtime library; without it ORT_DYLIB_PATH and the build's cache are searched
    #[arg(long, value_name = "FILE")]
    pub(super) library: Option<PathBuf>,
}
