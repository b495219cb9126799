//! Where in its life an engine is.

use std::sync::Arc;

use super::{OpenError, PartProgress};

/// Where in its life an engine is.
#[derive(Debug, Clone)]
pub enum EngineState {
    /// The model is being opened or warmed up. Jobs are refused.
    Loading {
        /// The last report; `None` before the first.
        progress: Option<PartProgress>,
    },
    /// Jobs are taken.
    Ready,
    /// There is no model to serve with; this state lasts.
    Failed(Arc<OpenError>),
    /// The engine was closed and its thread has ended.
    Stopped,
}
