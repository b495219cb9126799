//! How the program ends when it does not end well.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use falgate::config::Faults;

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// The configuration is wrong.
    #[error("{faults}")]
    Configuration { faults: Faults },
    /// The configuration is well formed, but something that it names cannot be used.
    #[error("the gate cannot start")]
    Unusable {
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// What was asked for on the command line cannot be had.
    #[error("{what}")]
    Usage { what: String },
    /// The model, its library or its device cannot be used.
    #[error("{what}")]
    Unavailable {
        what: String,
        #[source]
        cause: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Something failed while running.
    #[error("{what}")]
    Running {
        what: &'static str,
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
}

impl Failure {
    /// The code for the shell, after `sysexits.h` where it has one.
    fn code(&self) -> u8 {
        match self {
            Self::Running { .. } => 1,
            Self::Usage { .. } => 2,
            Self::Unavailable { .. } => 69,
            Self::Unreadable { .. } | Self::Configuration { .. } | Self::Unusable { .. } => 78,
        }
    }
}

/// Writes the failure and its causes to stderr.
#[expect(clippy::print_stderr, reason = "the last words of the program, also when no log is set up")]
pub(super) fn report(failure: &Failure) -> ExitCode {
    let mut text = format!("falgate: {failure}");
    let mut cause = failure.source();
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    eprintln!("{text}");
    ExitCode::from(failure.code())
}
