//! What a token is minted from, and what comes of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use secrecy::SecretString;

use crate::wire::{FieldError, Problem, ToProblem};

/// Longest token. It goes into the URL of a socket.
pub(super) const TOKEN_BYTES: usize = 1024;

/// What a token shall allow, decided by whoever mints it: nothing here asks whether the caller may have it.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whom the sockets are counted on; `None` for a caller without a name.
    pub caller: Option<Arc<str>>,
    /// By which tier they are limited; `None` for a caller without one.
    pub tier: Option<Arc<str>>,
    /// Aliases of the apps that it opens.
    pub apps: Vec<String>,
    /// The life that is wished for. It is moved into the configured bounds.
    pub life: Option<Duration>,
    /// Origin of the page that alone may use it; `None` where all may. `//host:port` is that host, whatever the scheme.
    pub origin: Option<String>,
    /// When it is minted.
    pub now: SystemTime,
}

/// A new token.
#[derive(Debug)]
pub struct Minted {
    /// The token. It is shown to nobody but its caller.
    pub token: SecretString,
    /// When it ends.
    pub expires: SystemTime,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintFault {
    /// It would open nothing.
    #[error("a token for no app was asked for")]
    NoApp,
    /// It would not fit into a URL.
    #[error("a token for {apps} apps would be longer than {TOKEN_BYTES} bytes")]
    TooLong {
        /// How many apps it names.
        apps: usize,
    },
    /// The key does not sign.
    #[error("the signing key does not sign")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

impl ToProblem for MintFault {
    fn to_problem(&self) -> Problem {
        let at_apps = |kind, msg: &str| Problem::invalid(vec![FieldError::at("allowed_apps", kind, msg)]);
        match self {
            Self::NoApp => at_apps("missing", "Field required"),
            Self::TooLong { .. } => at_apps("too_long", "A token cannot name so many apps"),
            Self::Sign(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
        }
    }
}
