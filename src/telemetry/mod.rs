//! Metrics, and the one log line per request.

mod call_note;
mod log_settings;

pub use call_note::CallNote;
pub use log_settings::{LogFormat, LogLevel, LogSettings};
