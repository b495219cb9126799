//! What goes wrong on the way to fal, and what callers hear of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::metrics::Outcome;
use crate::wire::{BodyError, Problem, ToProblem};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The settings contradict themselves.
    #[error("upstream.{path}: {fault}")]
    Settings {
        /// The key path inside `[upstream]`.
        path: String,
        /// What is wrong there.
        fault: String,
    },
    /// The CA file cannot be read.
    #[error("cannot read {} (upstream.ca_file)", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The CA file holds no certificate.
    #[error("{} holds no certificate that can be trusted (upstream.ca_file)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

/// Why a call to fal has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The request carries no admitted target: a fault in how the services are put together.
    #[error("the request carries no admitted target")]
    NoTarget,
    /// A method that is never sent.
    #[error("method is none of GET, POST and PUT")]
    Method,
    /// No connection in time.
    #[error("no connection after {} ms", after.as_millis())]
    ConnectTimeout {
        /// The limit that passed.
        after: Duration,
    },
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] BodyError),
    /// No answer in time.
    #[error("no answer after {} ms", after.as_millis())]
    NoAnswer {
        /// The limit that passed.
        after: Duration,
    },
    /// The connection broke before an answer.
    #[error("connection broke before an answer")]
    Broken(#[source] BodyError),
    /// An answer whose end cannot be told for sure.
    #[error("answer has doubtful framing")]
    Framing,
    /// The caller's body paused for too long.
    #[error("request body paused for too long")]
    CallerStalled,
    /// The caller's body broke.
    #[error("request body ended early")]
    CallerBroke,
}

impl UpstreamError {
    pub(super) const fn outcome(&self) -> Outcome {
        match self {
            Self::ConnectTimeout { .. } | Self::Connect(_) => Outcome::NotConnected,
            Self::NoAnswer { .. } => Outcome::TimedOut,
            Self::Broken(_) | Self::Framing | Self::NoTarget => Outcome::Broken,
            Self::CallerStalled | Self::CallerBroke | Self::Method => Outcome::CallerGone,
        }
    }
}

impl ToProblem for UpstreamError {
    fn to_problem(&self) -> Problem {
        match self {
            Self::NoTarget => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
            Self::Method => Problem::method_not_allowed("GET, POST, PUT"),
            Self::ConnectTimeout { .. } => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "the upstream could not be reached in time")
            }
            Self::Connect(_) => Problem::new(StatusCode::BAD_GATEWAY, "the upstream could not be reached"),
            // fal may be at work on it. The header keeps clients from sending, and paying for, the same call again.
            Self::NoAnswer { .. } => Problem::new(StatusCode::GATEWAY_TIMEOUT, "the upstream did not answer in time")
                .with_error_type("request_timeout")
                .with_header(HeaderName::from_static("x-fal-request-timeout-type"), HeaderValue::from_static("user"))
                .that_may_have_cost(),
            Self::Broken(_) | Self::Framing => {
                Problem::new(StatusCode::BAD_GATEWAY, "the upstream broke off before it answered").that_may_have_cost()
            }
            Self::CallerStalled => Problem::new(StatusCode::REQUEST_TIMEOUT, "the request body paused for too long"),
            Self::CallerBroke => Problem::new(StatusCode::BAD_REQUEST, "the request body ended early"),
        }
    }
}
