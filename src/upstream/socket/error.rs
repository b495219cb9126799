//! Why fal's socket could not be opened, and what clients hear of it.

use std::time::Duration;

use http::StatusCode;

use super::tunnel::{Farewell, REFUSED};
use crate::wire::BodyError;

/// Why fal's socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum OpenError {
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] BodyError),
    /// Not open in time.
    #[error("not open after {} ms", after.as_millis())]
    Slow {
        /// The limit that passed.
        after: Duration,
    },
    /// The connection broke before the handshake was answered.
    #[error("connection broke before the handshake was answered")]
    Broken(#[source] BodyError),
    /// An answer that is no socket.
    #[error("the handshake was answered {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// For how long to stay away, where the answer says so.
        retry_after: Option<Duration>,
    },
    /// An answer that says yes and is none: wrong key, or something that nobody asked for.
    #[error("the handshake was answered wrongly: {0}")]
    Handshake(&'static str),
    /// No token was minted.
    #[error("minting a token was answered {status}")]
    Token {
        /// The status.
        status: StatusCode,
    },
    /// What came for a token is none.
    #[error("what came for a token is none")]
    NoToken,
    /// fal took neither token nor key.
    #[error("neither token nor key was taken")]
    Unauthorized,
}

impl OpenError {
    /// Whether another key or a new token may do better.
    pub(super) const fn is_about_the_key(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status.as_u16(), 401 | 403 | 429),
            Self::Unauthorized => true,
            _ => false,
        }
    }

    /// What the client is told on the socket that it gets all the same: an answer of HTTP instead would lock older clients
    /// (protocol spec 6.6).
    pub(super) fn to_farewell(&self) -> Farewell {
        let (error, said) = match self {
            Self::Connect(_) => ("UPSTREAM_UNREACHABLE", "the upstream could not be reached"),
            Self::Slow { .. } => ("UPSTREAM_TIMEOUT", "the upstream did not answer in time"),
            Self::Broken(_) | Self::Handshake(_) | Self::NoToken => {
                ("UPSTREAM_FAILED", "the upstream did not open the socket")
            }
            Self::Status { status, .. } | Self::Token { status } => match status.as_u16() {
                404 => ("NOT_FOUND", "the upstream has no such app"),
                429 => ("RATE_LIMITED", "the upstream is at its limit"),
                401 | 403 => ("UPSTREAM_REFUSED", REFUSED),
                _ => ("UPSTREAM_FAILED", "the upstream did not open the socket"),
            },
            Self::Unauthorized => ("UPSTREAM_REFUSED", REFUSED),
        };
        Farewell::unopened(error, said.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_hear_what_failed_and_nothing_of_where() {
        let status =
            |status: u16| OpenError::Status { status: StatusCode::from_u16(status).unwrap(), retry_after: None };
        let cases = [
            (OpenError::Connect("refused by 10.0.0.1".into()), "UPSTREAM_UNREACHABLE"),
            (status(503), "UPSTREAM_FAILED"),
            (status(404), "NOT_FOUND"),
            (status(429), "RATE_LIMITED"),
            (status(401), "UPSTREAM_REFUSED"),
            (OpenError::Slow { after: Duration::from_secs(1) }, "UPSTREAM_TIMEOUT"),
        ];
        for (error, word) in cases {
            let words = error.to_farewell();
            let (error, said) = words.text.unwrap();
            assert_eq!((error, words.client.code), (word, 1000));
            assert!(!said.contains("10.0.0.1"), "{said}");
        }
    }
}
