//! Metrics, and the one log line per request.

mod call_note;

pub use call_note::CallNote;
