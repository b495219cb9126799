//! Metrics, and the one log line per request.

mod call_note;
mod http_metrics;
mod log_settings;
mod log_writer;
mod request_line;
mod request_log;

pub use call_note::{CallNote, CallerNote, WorkNote};
pub use http_metrics::HttpMetrics;
pub use log_settings::{LogFormat, LogLevel, LogSettings};
pub use log_writer::{LogGuard, LogWriter};
#[cfg(feature = "host")]
pub(crate) use request_line::write_time;
pub use request_log::{Counted, LogFuture, LogSubject, LoggedBody, RequestLog, RequestLogLayer};
