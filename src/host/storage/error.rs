//! Why a file was not taken or given.

use std::time::Duration;

use http::StatusCode;

use crate::wire::{CollectError, FieldError, Problem, ToProblem};

/// Why a file was not taken or given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No such file, or its time is up.
    #[error("no such file")]
    NotFound,
    /// The upload URL is not one of this start's, was altered, or belongs to another file.
    #[error("upload url is not valid")]
    BadToken(#[source] Option<jsonwebtoken::errors::Error>),
    /// The upload URL's time is up.
    #[error("upload url has expired")]
    Expired,
    /// The upload URL was used before.
    #[error("upload url was used before")]
    Used,
    /// The upload is too large or broke off.
    #[error("upload failed")]
    Body(#[source] CollectError),
    /// The file can never fit.
    #[error("upload does not fit")]
    Store(#[source] super::StoreTooSmall),
    /// The upload was announced with odd words.
    #[error("upload was announced with an odd {}", .0.sentence())]
    Announced(Box<FieldError>),
}

impl ToProblem for StorageError {
    fn to_problem(&self) -> Problem {
        match self {
            Self::NotFound => Problem::new(StatusCode::NOT_FOUND, "File not found"),
            Self::BadToken(_) => Problem::new(StatusCode::FORBIDDEN, "upload url is not valid"),
            Self::Expired => Problem::new(StatusCode::FORBIDDEN, "upload url has expired, initiate again"),
            Self::Used => Problem::new(StatusCode::CONFLICT, "upload url was used before, initiate again"),
            Self::Body(CollectError::TooLarge { limit }) => Problem::too_large(*limit),
            Self::Body(CollectError::NoRoom) => {
                Problem::rate_limited("too many uploads are under way, try again", Duration::from_secs(1))
            }
            Self::Body(CollectError::Broken(_)) => Problem::new(StatusCode::BAD_REQUEST, "upload ended early"),
            Self::Store(too_small) => Problem::too_large(too_small.limit),
            Self::Announced(fault) => Problem::invalid(vec![(**fault).clone()]),
        }
    }
}
