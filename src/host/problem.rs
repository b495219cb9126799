//! Why a call was not answered, and how callers hear of it.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::fetch::FetchError;
use super::pictures::{PictureError, PoolFull};
use super::storage::StorageError;
use super::store::StoreTooSmall;
use super::waiting::Turned;
use crate::engine::{BackendError, EngineError};
use crate::wire::{CollectError, FieldError, HandshakeFault, Problem, ToProblem};

const NEEDS_RETRY: HeaderName = HeaderName::from_static("x-fal-needs-retry");
const TIMEOUT_TYPE: HeaderName = HeaderName::from_static("x-fal-request-timeout-type");
/// How a caller stands in the waiting room.
const QUEUE_PLACE: HeaderName = HeaderName::from_static("x-falgate-queue-place");
const QUEUE_WAIT: HeaderName = HeaderName::from_static("x-falgate-queue-wait");
/// What a caller is told about trouble that is not his, in fal's words.
const OURS: &str = "Internal Server Error";
/// A model takes seconds to minutes to load.
const LOADING_WAIT: Duration = Duration::from_secs(5);
const FULL_WAIT: Duration = Duration::from_secs(1);

/// The picture of an input: which field named it, and how errors may show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureName {
    /// `image_url` or `image_bytes`.
    pub field: &'static str,
    /// A shortened URL without query, or the beginning of a data URI.
    pub shown: String,
}

/// Why a call was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The input breaks the app's schema.
    #[error("input has {} faults", .0.len())]
    Input(Vec<FieldError>),
    /// The body is too large or broke off.
    #[error("body cannot be read")]
    Body(#[source] CollectError),
    /// The body is announced as something else than JSON.
    #[error("body is {found}, no JSON")]
    ContentType {
        /// The announced media type.
        found: String,
    },
    /// A timeout header that holds no number of seconds.
    #[error("{header} holds no number of seconds")]
    TimeoutHeader {
        /// The header.
        header: &'static str,
    },
    /// Too many runs are under way.
    #[error("{limit} runs are under way already")]
    Busy {
        /// Runs at the same time.
        limit: usize,
    },
    /// The picture workers are busy, and enough pictures wait.
    #[error(transparent)]
    Pool(#[from] PoolFull),
    /// The input picture cannot be used.
    #[error("input picture cannot be used")]
    Picture {
        /// Which one.
        name: PictureName,
        /// Why not.
        #[source]
        cause: PictureError,
    },
    /// The input picture cannot be fetched.
    #[error("input picture cannot be fetched")]
    Fetch {
        /// Which one.
        name: PictureName,
        /// Why not.
        #[source]
        cause: FetchError,
    },
    /// The input picture is a file of this gate that is no longer there.
    #[error("input picture is a stored file that is gone")]
    Gone {
        /// Which one.
        name: PictureName,
    },
    /// Safety checks were asked for, the model has no checker, and the settings refuse that.
    #[error("model has no safety checker")]
    NoSafetyChecker,
    /// The engine gave no picture.
    #[error("engine gave no picture")]
    Engine(#[from] EngineError),
    /// The result does not fit into the store.
    #[error("result cannot be stored")]
    Store(#[from] StoreTooSmall),
    /// An upload was not prepared.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A path below the app at which nothing is hosted.
    #[error("nothing is hosted at {path}")]
    UnknownPath {
        /// The path.
        path: String,
    },
    /// A kind of call that hosted apps do not have.
    #[error("{kind} calls are not hosted")]
    NotHosted {
        /// The kind.
        kind: &'static str,
    },
    /// A socket's handshake that cannot be answered.
    #[error("handshake cannot be answered")]
    Handshake(#[source] HandshakeFault),
    /// The caller has no place at the engine.
    #[error("no place at the engine")]
    NoPlace(#[from] Turned),
    /// The gate did not say under which origin it was reached, and none is configured.
    #[error("request carries no public origin")]
    NoOrigin,
}

impl ToProblem for HostError {
    fn to_problem(&self) -> Problem {
        match self {
            Self::Input(faults) => Problem::invalid(faults.clone()),
            Self::Body(error @ (CollectError::TooLarge { .. } | CollectError::Broken(_))) => error.to_problem(),
            Self::ContentType { found } => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("content type must be application/json, not {found}"),
            ),
            Self::TimeoutHeader { header } => {
                Problem::new(StatusCode::BAD_REQUEST, format!("{header} must be a number of seconds above 0"))
                    .with_error_type("bad_request")
            }
            Self::Busy { .. } | Self::Body(CollectError::NoRoom) => busy("too many requests are running, try again"),
            Self::Pool(PoolFull { .. }) => busy("too many pictures are being prepared, try again"),
            Self::Picture { name, cause } => cause.at(name.field, &name.shown),
            Self::Fetch { name, cause } => cause.at(name.field, &name.shown),
            Self::Gone { name } => {
                let msg = format!("Could not load image from url: {} (the file has expired)", name.shown);
                Problem::invalid(vec![FieldError::at(name.field, "file_download_error", msg)])
            }
            Self::NoSafetyChecker => {
                let msg = "There is no safety checker here, set enable_safety_checks to false";
                Problem::invalid(vec![FieldError::at("enable_safety_checks", "feature_not_supported", msg)])
            }
            Self::Engine(error) => error.to_problem(),
            Self::NoPlace(turned) => turned.to_problem(),
            Self::Store(StoreTooSmall { .. }) | Self::NoOrigin => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, OURS),
            Self::Storage(error) => error.to_problem(),
            Self::Handshake(fault) => fault.to_problem(),
            Self::UnknownPath { path } => Problem::not_found(path),
            Self::NotHosted { kind } => Problem::new(
                StatusCode::NOT_IMPLEMENTED,
                format!("{kind} calls are not supported for apps that this gate hosts itself"),
            )
            .with_error_type("feature_not_supported"),
        }
    }
}

impl ToProblem for EngineError {
    fn to_problem(&self) -> Problem {
        match self {
            Self::Full { .. } => busy("too many requests are waiting, try again"),
            Self::TooLate { .. } => busy("request would not start within the time that it allows, try again"),
            Self::Superseded => Problem::new(StatusCode::CONFLICT, "a newer request took the place of this one"),
            Self::StartTimeout => {
                let detail = "request did not start within the time that it allows";
                Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
                    .with_error_type("request_timeout")
                    .with_header(TIMEOUT_TYPE, HeaderValue::from_static("user"))
            }
            Self::Closed => unavailable("the engine is shutting down, try again", FULL_WAIT),
            Self::Loading => unavailable("the model is still loading, try again", LOADING_WAIT),
            // For good: a status that clients repeat would only be asked for again.
            Self::Failed { .. } => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the model cannot be served")
                .with_error_type("runner_server_error")
                .with_header(NEEDS_RETRY, HeaderValue::from_static("false")),
            Self::Unfit { what } => {
                let fault = FieldError {
                    loc: vec!["body".into()],
                    msg: what.clone(),
                    kind: "value_error",
                    input: None,
                    ctx: None,
                };
                Problem::invalid(vec![fault])
            }
            Self::Backend { cause, .. } => match **cause {
                BackendError::OutOfMemory => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "GPU error")
                    .with_error_type("runner_server_error")
                    .with_header(NEEDS_RETRY, HeaderValue::from_static("true")),
                BackendError::Run { .. }
                | BackendError::NotFinite { .. }
                | BackendError::Shape { .. }
                | BackendError::Panicked { .. }
                | BackendError::Count { .. }
                | BackendError::NoChecker
                | BackendError::Foreign => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, OURS)
                    .with_error_type("runner_server_error")
                    .with_header(NEEDS_RETRY, HeaderValue::from_static("false")),
            },
        }
    }
}

impl ToProblem for Turned {
    fn to_problem(&self) -> Problem {
        match self {
            Self::Waits { standing, back_s } => {
                let (place, wait_s) = (standing.place, standing.wait_s());
                let detail = format!("all places are taken: you are number {place} in the queue, for about {wait_s} s");
                // Whoever comes back by then is still in the queue.
                let back = Duration::from_secs(wait_s.min((back_s / 2).max(1)));
                Problem::rate_limited(detail, back)
                    .with_error_type("concurrent_requests_limit")
                    .with_header(NEEDS_RETRY, HeaderValue::from_static("true"))
                    .with_header(QUEUE_PLACE, HeaderValue::from(place))
                    .with_header(QUEUE_WAIT, HeaderValue::from(wait_s))
            }
            Self::Full => busy("all places are taken and too many callers wait, try again"),
            Self::Closing => unavailable("the engine is shutting down, try again", FULL_WAIT),
        }
    }
}

fn busy(detail: &'static str) -> Problem {
    Problem::rate_limited(detail, FULL_WAIT)
        .with_error_type("concurrent_requests_limit")
        .with_header(NEEDS_RETRY, HeaderValue::from_static("true"))
}

fn unavailable(detail: &'static str, wait: Duration) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with_error_type("runner_scheduling_failure")
        .with_header(http::header::RETRY_AFTER, HeaderValue::from(wait.as_secs()))
        .with_header(NEEDS_RETRY, HeaderValue::from_static("true"))
}
