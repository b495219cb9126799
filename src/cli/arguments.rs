//! The command line.

use std::net::SocketAddr;
#[cfg(feature = "onnx")]
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  falgate serve --config config/demo.toml        start a gate
  falgate check --config /etc/falgate.toml       name every fault of a configuration, start nothing
  falgate model inspect models/lcm-sd15          say what a model folder holds, and what it lacks
  falgate model bench models/lcm-sd15 --json     measure it, phase by phase
  falgate limits show                            say who calls a running gate, and what limits refused
  falgate token mint --app fal-ai/lcm-sd15-i2i   print a token for a socket
  falgate key new --name ann >> access-keys      print an access key, keep the line with its hash
  FALGATE__GATE__WORKERS=4 falgate serve         set one key from the environment

Exit codes:
   0  done
   1  failed while running, or a port is not to be had
   2  the command line is wrong
  69  the model, its library or its device cannot be used, or no running gate answers
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
    /// See what the limits of a running gate did, and let callers off
    Limits {
        #[command(subcommand)]
        command: LimitsCommand,
    },
    /// Mint tokens for sockets, and change the key that signs them
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Make access keys
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Look at models and measure them
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

const KEYS: &str = "\
Keys:
  caller:NAME             a caller whose name the gate knows
  address:203.0.113.7     an address; any address of an IPv6 network means the network
  tier:NAME               all of a tier together
  endpoint:OWNER/ALIAS    all calls of an app together
  all                     the share of everybody together, not everybody's

A key that `show` prints can be given to `reset` as it is; in names, everything but plain letters, digits and signs is
percent-encoded.";

#[derive(Debug, Subcommand)]
pub(super) enum LimitsCommand {
    /// Print every limit, who calls most and who spent most; with a key how it stands with each limit
    #[command(after_help = KEYS)]
    Show(ShowLimits),
    /// Forget what a key did: its rules are rested, its budgets unspent. Open calls and sockets stay counted
    #[command(after_help = KEYS)]
    Reset {
        /// Who is let off
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        admin: AdminOf,
    },
}

#[derive(Debug, Args)]
pub(super) struct ShowLimits {
    /// Whose standing is asked for
    #[arg(value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Write JSON instead of tables
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) admin: AdminOf,
}

/// Which running gate is asked.
#[derive(Debug, Args)]
pub(super) struct AdminOf {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Address of the admin listener; without it, gate.admin of the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(super) admin: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print a token that opens sockets to some apps, and nothing else
    Mint(Mint),
    /// Sign with a new key from now on; tokens of the old one hold to their end. A running gate follows by itself
    Rotate {
        #[command(flatten)]
        file: ConfigFile,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Print a new access key, once, and the line with its hash for the file of guard.keys
    New(NewKeyWish),
}

#[derive(Debug, Args)]
pub(super) struct NewKeyWish {
    /// Who gets the key; without it the caller is named by the line's place in the file
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// By which tier its holder is limited
    #[arg(long, value_name = "TIER")]
    pub(super) tier: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Mint {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// An app that the token opens, whole or by its alias; may be given more than once
    #[arg(long, value_name = "APP", required = true)]
    pub(super) app: Vec<String>,
    /// How long it holds, in seconds, within guard.tokens.life
    #[arg(long, value_name = "SECONDS")]
    pub(super) life: Option<u32>,
    /// Whom its sockets are counted on
    #[arg(long, value_name = "NAME")]
    pub(super) caller: Option<String>,
    /// By which tier they are limited
    #[arg(long, value_name = "TIER")]
    pub(super) tier: Option<String>,
    /// The origin of the page that alone may use it: https://draw.example
    #[arg(long, value_name = "ORIGIN")]
    pub(super) origin: Option<String>,
}

#[cfg(feature = "onnx")]
#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Say what a model folder holds: parts, names, ranks, types, sizes, and what is missing
    Inspect(Inspect),
    /// Measure how long a model takes, phase by phase and batch by batch
    Bench(Bench),
}

#[cfg(feature = "onnx")]
#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The model's folder
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// What runs it: cpu or cuda
    #[arg(long, value_name = "PROVIDER", default_value = "cpu", value_parser = provider)]
    pub(super) provider: falgate::engine::Provider,
    /// Number of the CUDA device
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) device: u32,
    /// Folder with CUDA or cuDNN libraries that the system does not find by itself; may be given more than once
    #[arg(long, value_name = "DIR")]
    pub(super) cuda_libraries: Vec<PathBuf>,
    /// Threads of the CPU provider; without it one a core
    #[arg(long, value_name = "NUMBER")]
    pub(super) threads: Option<NonZeroUsize>,
    /// Side of the square pictures in pixels, a multiple of 64
    #[arg(long, value_name = "PX", default_value_t = 512)]
    pub(super) size: u32,
    /// Rows a call
    #[arg(long, value_name = "NUMBERS", default_value = "1,2,4,8", value_delimiter = ',')]
    pub(super) batch: Vec<NonZeroUsize>,
    /// Steps of whole pictures
    #[arg(long, value_name = "NUMBERS", default_value = "1,2,4", value_delimiter = ',')]
    pub(super) steps: Vec<NonZeroUsize>,
    /// Measured calls a row
    #[arg(long, value_name = "NUMBER", default_value = "20")]
    pub(super) rounds: NonZeroUsize,
    /// Begin no further call of a row after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) row_limit: u32,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// The ONNX Runtime library; without it ORT_DYLIB_PATH and the build's cache are searched
    #[arg(long, value_name = "FILE")]
    pub(super) library: Option<PathBuf>,
}

/// Reads a provider's name.
#[cfg(feature = "onnx")]
fn provider(name: &str) -> Result<falgate::engine::Provider, String> {
    use falgate::engine::Provider;
    [Provider::Cpu, Provider::Cuda]
        .into_iter()
        .find(|provider| provider.to_string() == name)
        .ok_or_else(|| "cpu and cuda are the providers".to_owned())
}

#[cfg(feature = "onnx")]
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The model's folder, as optimum exports it
    #[arg(value_name = "DIR")]
    pub(super) folder: PathBuf,
    /// Compare every file with the hash in the folder's manifest; without this, the sizes alone
    #[arg(long)]
    pub(super) hashes: bool,
    /// Write JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// The ONNX Runtime library; without it ORT_DYLIB_PATH and the build's cache are searched
    #[arg(long, value_name = "FILE")]
    pub(super) library: Option<PathBuf>,
}
