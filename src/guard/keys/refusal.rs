//! Refusals in fal's words.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};

use crate::wire::{Problem, ToProblem};

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefusal {
    /// No key was sent.
    #[error("no access key was sent")]
    Missing,
    /// The header is neither `Key <id>:<secret>` nor `Bearer <key>`, or there are two.
    #[error("authorization header is malformed")]
    Malformed,
    /// The key is none of ours.
    #[error("access key is unknown")]
    Unknown,
}

impl ToProblem for KeyRefusal {
    fn to_problem(&self) -> Problem {
        let sentence = match self {
            Self::Missing => "Cannot access application. Authentication is required to access this application.",
            Self::Malformed => "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'.",
            Self::Unknown => "No user found for Key ID and Secret",
        };
        Problem::new(StatusCode::UNAUTHORIZED, sentence).with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Key"))
    }
}
