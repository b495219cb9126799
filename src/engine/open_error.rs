//! Why an engine has no model to serve with.

use super::BackendError;

/// Why an engine has no model to serve with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The model, its files or the runtime cannot serve.
    #[error("model cannot be opened: {what}")]
    Model {
        /// What is wrong, in one sentence that names the file or the setting.
        what: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model opened, but its first run failed.
    #[error("model opened but failed its warm-up")]
    WarmUp {
        /// What failed.
        #[source]
        cause: BackendError,
    },
    /// The model's schedule cannot be used.
    #[error("model has an unusable schedule")]
    Schedule {
        /// What is wrong with it.
        #[source]
        cause: super::ScheduleError,
    },
    /// The code that opens the model panicked.
    #[error("opening the model panicked: {what}")]
    Panicked {
        /// The panic's message.
        what: String,
    },
    /// The device failed while it served and has not passed a warm-up since.
    #[error("device failed and does not recover")]
    Lost {
        /// How the warm-up after the failure failed.
        #[source]
        cause: BackendError,
    },
    /// Whoever started the engine does not want it any more; nothing was opened.
    #[error("engine was called off before it opened its model")]
    CalledOff,
    /// The engine's thread cannot be started.
    #[error("engine thread cannot be started")]
    Thread {
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
}
