//! Why a job has no picture.

use std::sync::Arc;
use std::time::Duration;

use super::{BackendError, OpenError};

/// Why a job has no picture.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No room: try again later.
    #[error("queue is full at {limit} jobs")]
    Full {
        /// Jobs that may wait.
        limit: usize,
    },
    /// The job did not start in time.
    #[error("job did not start before its deadline")]
    StartTimeout,
    /// The job would not start in time, by what the work before it costs; nothing was queued.
    #[error("job would start in {} ms, after its deadline", .wait.as_millis())]
    TooLate {
        /// How long it would wait.
        wait: Duration,
    },
    /// A newer job of its lane took its place.
    #[error("a newer job of its lane took its place")]
    Superseded,
    /// The engine is shutting down.
    #[error("engine is shutting down")]
    Closed,
    /// The model is still being opened or warmed up.
    #[error("engine is still loading its model")]
    Loading,
    /// The engine has no model to serve with.
    #[error("engine has no model to serve with")]
    Failed {
        /// Why.
        #[source]
        cause: Arc<OpenError>,
    },
    /// A job that the model cannot run; nothing was queued.
    #[error("{what}")]
    Unfit {
        /// What does not fit, with the value at fault.
        what: String,
    },
    /// The device failed; every row of the batch shares the cause.
    #[error("backend failed on a batch of {rows}")]
    Backend {
        /// Rows in the batch.
        rows: usize,
        /// What failed.
        #[source]
        cause: Arc<BackendError>,
    },
}
