//! Metrics, and the one log line per request.

mod log_settings;

pub use log_settings::{LogFormat, LogLevel, LogSettings};
