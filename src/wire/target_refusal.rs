//! Why a target is not called.

use http::StatusCode;

use super::{Problem, ToProblem};

/// Why a target was not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetRefusal {
    /// No target header, or an empty one.
    #[error("missing the x-fal-target-url header")]
    Missing,
    /// Not an https URL of fal's, or one with odd parts.
    #[error("invalid x-fal-target-url header: {0}")]
    Invalid(&'static str),
    /// A path at which fal has nothing that falgate knows.
    #[error("no such call: {path}")]
    UnknownPath {
        /// The path that was asked for.
        path: String,
    },
    /// The call exists, for another method.
    #[error("method not allowed, use {allow}")]
    Method {
        /// The methods that would do.
        allow: &'static str,
    },
    /// The endpoint is not on the allow list.
    #[error("endpoint {endpoint} is not allowed by this gate")]
    Endpoint {
        /// The endpoint that was asked for.
        endpoint: String,
    },
    /// A kind of call that is switched off.
    #[error("{what} are not allowed by this gate")]
    SwitchedOff {
        /// What is switched off: `tokens`, `uploads` or `webhooks`.
        what: &'static str,
    },
}

impl ToProblem for TargetRefusal {
    fn to_problem(&self) -> Problem {
        let status = match self {
            Self::Missing => StatusCode::BAD_REQUEST,
            Self::Invalid(_) => StatusCode::PRECONDITION_FAILED,
            Self::UnknownPath { path } => return Problem::not_found(path),
            Self::Method { allow } => return Problem::method_not_allowed(allow),
            Self::Endpoint { .. } | Self::SwitchedOff { .. } => StatusCode::FORBIDDEN,
        };
        Problem::new(status, self.to_string())
    }
}
