//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::error::LoadError;
use super::place::Place;

/// Measures sockets of a gate on this machine.
#[derive(Debug, Parser)]
#[command(name = "socket_load")]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Be a gate whose engine is a fake that takes a fixed time.
    Gate(Gate),
    /// Be the fal behind a relay.
    Fal(Fal),
    /// Round trips of pictures on one socket.
    Latency(Latency),
    /// What the relay adds to a frame's round trip, against the same upstream without it.
    Relay(Relay),
    /// Many painters at once: how old the newest stroke gets, who comes short, what shows out of order.
    Painters(Painters),
    /// Sockets that behave badly, for a while: memory and gauges of the gate.
    Soak(Soak),
    /// Memory of idle sockets.
    Idle(Idle),
    /// CPU and round trip of relayed messages, for several tunnels in turn.
    Tunnel(Tunnel),
}

/// A gate with a fake engine.
#[derive(Debug, Args)]
pub(crate) struct Gate {
    /// Its configuration.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// What a batch takes, in milliseconds.
    #[arg(long, default_value_t = 20)]
    pub(crate) backend_ms: u64,
}

/// The fal behind a relay.
#[derive(Debug, Args)]
pub(crate) struct Fal {
    /// Where it listens.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// What it says to a message: `echo`, `nothing`, `pictures`, or so many bytes.
    #[arg(long, default_value = "echo")]
    pub(crate) answers: Answers,
}

/// What the fake fal says to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The same.
    Echo,
    /// Nothing at all.
    Nothing,
    /// The picture of the input, as the result of an app that takes no time.
    Pictures,
    /// A binary message of so many bytes.
    Fixed(usize),
}

impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "echo" => Ok(Self::Echo),
            "nothing" => Ok(Self::Nothing),
            "pictures" => Ok(Self::Pictures),
            bytes => {
                bytes.parse().map(Self::Fixed).map_err(|_| "echo, nothing, pictures or a number of bytes".to_owned())
            }
        }
    }
}

/// How inputs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    /// JSON in text frames, pictures as data URIs.
    Text,
    /// msgpack in binary frames, pictures as bytes.
    Binary,
}

/// One socket of the gate and what opens it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Door {
    /// The socket's URL.
    #[arg(long)]
    pub(crate) url: Place,
    /// Where tokens are had: the gate's `/tokens/`. Without it sockets are opened without one.
    #[arg(long)]
    pub(crate) tokens: Option<Place>,
    /// An access key of the gate: tokens are asked for with it, or without tokens the sockets themselves.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The app that tokens are for.
    #[arg(long, default_value = "fal-ai/lcm-sd15-i2i")]
    pub(crate) app: String,
    /// Sockets opened with one token.
    #[arg(long, default_value_t = 32)]
    pub(crate) sockets_per_token: usize,
}

/// Round trips of pictures on one socket.
#[derive(Debug, Args)]
pub(crate) struct Latency {
    #[command(flatten)]
    pub(crate) door: Door,
    /// Round trips that count.
    #[arg(long, default_value_t = 300)]
    pub(crate) count: u32,
    /// Round trips before, which do not.
    #[arg(long, default_value_t = 20)]
    pub(crate) warm_up: u32,
    /// Pause after each, in milliseconds.
    #[arg(long, default_value_t = 15)]
    pub(crate) pause_ms: u64,
    /// Side of the pictures, in pixels.
    #[arg(long, default_value_t = 512)]
    pub(crate) side: u32,
    /// How inputs are written.
    #[arg(long, value_enum, default_value_t = Dialect::Binary)]
    pub(crate) dialect: Dialect,
    /// Where the raw numbers go.
    #[arg(long)]
    pub(crate) raw: Option<PathBuf>,
    /// Fail if the 95th percentile is above so many milliseconds.
    #[arg(long)]
    pub(crate) goal_p95_ms: Option<f64>,
}

/// What the relay adds.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    #[command(flatten)]
    pub(crate) door: Door,
    /// A socket of the same upstream without the relay.
    #[arg(long)]
    pub(crate) direct: Place,
    /// Bytes of a frame.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) bytes: usize,
    /// Frames on each socket that count; they take turns.
    #[arg(long, default_value_t = 2000)]
    pub(crate) count: u32,
    /// Frames before, which do not.
    #[arg(long, default_value_t = 100)]
    pub(crate) warm_up: u32,
    /// Where the raw numbers go.
    #[arg(long)]
    pub(crate) raw: Option<PathBuf>,
    /// Fail if the relay adds more than so many milliseconds to the median.
    #[arg(long)]
    pub(crate) goal_added_ms: Option<f64>,
}

/// Many painters at once.
#[derive(Debug, Args)]
pub(crate) struct Painters {
    #[command(flatten)]
    pub(crate) door: Door,
    /// How many.
    #[arg(long, default_value_t = 16)]
    pub(crate) painters: u32,
    /// Strokes each sends in a second, whether or not pictures come back.
    #[arg(long, default_value_t = 8)]
    pub(crate) rate: u32,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Side of the pictures, in pixels.
    #[arg(long, default_value_t = 512)]
    pub(crate) side: u32,
    /// How inputs are written.
    #[arg(long, value_enum, default_value_t = Dialect::Binary)]
    pub(crate) dialect: Dialect,
    /// Where the raw numbers go.
    #[arg(long)]
    pub(crate) raw: Option<PathBuf>,
    /// Fail if a stroke takes longer to show than so many milliseconds at the 95th percentile, if a painter gets less than
    /// half of the mean, or if anything shows out of order.
    #[arg(long)]
    pub(crate) goal_p95_ms: Option<f64>,
}

/// Sockets that behave badly.
#[derive(Debug, Args)]
pub(crate) struct Soak {
    #[command(flatten)]
    pub(crate) door: Door,
    /// A relayed socket of the same gate; every second socket goes there.
    #[arg(long)]
    pub(crate) relayed: Option<Place>,
    /// The app that tokens of relayed sockets are for.
    #[arg(long, default_value = "fal-ai/bench")]
    pub(crate) relayed_app: String,
    /// The gate's process.
    #[arg(long)]
    pub(crate) pid: u32,
    /// The gate's admin listener.
    #[arg(long)]
    pub(crate) admin: Place,
    /// Sockets at once.
    #[arg(long, default_value_t = 200)]
    pub(crate) sockets: usize,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Memory that the gate may grow by from the tenth second to the end, in MiB.
    #[arg(long, default_value_t = 16)]
    pub(crate) growth_mib: u64,
    /// Where the samples of memory go.
    #[arg(long)]
    pub(crate) raw: Option<PathBuf>,
}

/// Memory of idle sockets.
#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) door: Door,
    /// What the table calls it.
    #[arg(long)]
    pub(crate) name: String,
    /// The server's process.
    #[arg(long)]
    pub(crate) pid: u32,
    /// Sockets.
    #[arg(long, default_value_t = 5000)]
    pub(crate) sockets: usize,
    /// Bytes of a binary message that each socket sends once before it falls quiet, and whose answer it awaits; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub(crate) message: usize,
    /// Quiet time before memory is read, in seconds.
    #[arg(long, default_value_t = 5)]
    pub(crate) settle_s: u64,
    /// Fail above so many KiB a socket.
    #[arg(long)]
    pub(crate) goal_kib: Option<f64>,
}

/// Tunnels in turn.
#[derive(Debug, Args)]
pub(crate) struct Tunnel {
    /// A way to the upstream: `name=pid=url`, or `name=url` where no process stands between. Ratios are to the one that is
    /// named `nginx`.
    #[arg(long = "through", required = true)]
    pub(crate) ways: Vec<Way>,
    /// Where tokens are had for the way named `falgate`.
    #[arg(long)]
    pub(crate) tokens: Option<Place>,
    /// An access key for that way.
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The app that tokens are for.
    #[arg(long, default_value = "fal-ai/bench")]
    pub(crate) app: String,
    /// Bytes of a message.
    #[arg(long, default_value_t = 65_536)]
    pub(crate) bytes: usize,
    /// Sockets at once; each sends its next message when the last has come back.
    #[arg(long, default_value_t = 1)]
    pub(crate) sockets: usize,
    /// Rounds; each way gets its turn in each.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Length of a turn, in seconds.
    #[arg(long, default_value_t = 3)]
    pub(crate) seconds: u64,
    /// Where the raw numbers go.
    #[arg(long)]
    pub(crate) raw: Option<PathBuf>,
    /// Fail if the CPU of the way named `falgate` is above so much of that of `nginx`.
    #[arg(long)]
    pub(crate) goal_ratio: Option<f64>,
}

/// A way to the upstream.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// What the table calls it.
    pub(crate) name: String,
    /// Whose CPU is counted.
    pub(crate) pid: Option<u32>,
    /// Where it is entered.
    pub(crate) place: Place,
}

impl FromStr for Way {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let wrong = || LoadError::Setup(format!("`{text}` is not name=pid=url"));
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (pid, url) = match rest.split_once('=') {
            Some((pid, url)) if !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => {
                (Some(pid.parse().map_err(|_| wrong())?), url)
            }
            _ => (None, rest),
        };
        Ok(Self { name: name.to_owned(), pid, place: url.parse()? })
    }
}
