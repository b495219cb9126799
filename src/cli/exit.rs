//! How the program ends when it does not end well.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use falgate::config::Faults;
use falgate::gate::ServeError;

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
    #[error("the gate cannot start{}", listed(causes))]
    Unusable { causes: Vec<ServeError> },
    /// What was asked for on the command line cannot be had.
    #[error("{what}")]
    Usage { what: String },
    /// The model, its library or its device cannot be used, or a running gate that was asked does not answer.
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

/// Each error with its causes: behind a colon if it is the only one, on a line of its own otherwise.
fn listed(errors: &[ServeError]) -> String {
    let before = if errors.len() == 1 { ": " } else { "\n  " };
    errors.iter().map(|error| format!("{before}{}", with_causes(error))).collect()
}

/// An error and its causes in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    text
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
    eprintln!("falgate: {}", with_causes(failure));
    ExitCode::from(failure.code())
}
