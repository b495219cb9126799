//! Whether jobs are let in.

use std::sync::Arc;

use super::plan::Outlook;
use super::{EngineError, OpenError};

/// Whether jobs are let in.
pub(super) enum Door {
    Loading,
    Open,
    Closed,
    Failed(Arc<OpenError>),
}

impl Door {
    /// Lets a job in, or says why not.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        match self {
            Self::Open => Ok(()),
            Self::Loading => Err(EngineError::Loading),
            Self::Closed => Err(EngineError::Closed),
            Self::Failed(cause) => Err(EngineError::Failed { cause: Arc::clone(cause) }),
        }
    }

    /// Whether more jobs may come.
    pub(super) const fn outlook(&self) -> Outlook {
        if matches!(self, Self::Open) { Outlook::Open } else { Outlook::Closing }
    }
}
