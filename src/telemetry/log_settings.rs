//! What is written about the gate's work, and how.

use serde::{Deserialize, Serialize};

/// Logs, `[telemetry]`. They go to standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How lines are written: `text` for people, `json` for machines.
    pub format: LogFormat,
    /// The least important line that is written: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line that a person reads, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How important a line must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing is written.
    Off,
    /// What failed and needs a person.
    Error,
    /// What is odd and may need one.
    Warn,
    /// Starts, stops and one line for each request.
    #[default]
    Info,
    /// How decisions were made.
    Debug,
    /// Everything.
    Trace,
}
