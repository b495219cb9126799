//! Why a URL gave no file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

use crate::wire::{FieldError, Problem, ToProblem};

/// Why a URL gave no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// A URL that is not fetched, whatever its address.
    #[error("{0}")]
    Url(&'static str),
    /// Fetching is switched off.
    #[error("fetching is switched off")]
    SwitchedOff,
    /// The name has no address.
    #[error("host name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// At least one address is not public and not allowed.
    #[error("host has an address that is not public")]
    NotPublic,
    /// No address took the connection.
    #[error("host cannot be reached")]
    Connect(#[source] io::Error),
    /// The server broke off or spoke no HTTP.
    #[error("server broke off")]
    Http(#[source] hyper::Error),
    /// The server answered with something else than a file.
    #[error("server answered {0}")]
    Status(StatusCode),
    /// A redirect without a usable target, or one too many.
    #[error("more than {limit} redirects, or one to nowhere")]
    Redirects {
        /// Redirects that are followed.
        limit: u8,
    },
    /// The file is too large.
    #[error("file is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It took too long.
    #[error("fetch took longer than {}s", limit.as_secs())]
    Timeout {
        /// The time it had.
        limit: Duration,
    },
    /// Too many fetches are under way.
    #[error("{limit} fetches are under way already")]
    Busy {
        /// Fetches at the same time.
        limit: usize,
    },
}

impl FetchError {
    /// The problem that names the field and shows `shown` for the URL.
    ///
    /// What this machine can resolve or reach stays untold: one sentence for all of that.
    #[must_use]
    pub fn at(&self, field: &str, shown: &str) -> Problem {
        let (kind, why) = match self {
            Self::Url(why) => ("image_load_error", (*why).to_owned()),
            Self::SwitchedOff => ("feature_not_supported", "URLs are not fetched here, send a data URI".to_owned()),
            Self::Resolve(_) | Self::NotPublic | Self::Connect(_) | Self::Http(_) => {
                ("file_download_error", "it cannot be reached".to_owned())
            }
            Self::Status(status) => ("file_download_error", format!("its server answered {}", status.as_u16())),
            Self::Redirects { limit } => ("file_download_error", format!("it redirects more than {limit} times")),
            Self::TooLarge { limit } => ("file_too_large", format!("it is larger than {limit} bytes")),
            Self::Timeout { limit } => {
                ("file_download_error", format!("it took longer than {} s", limit.as_secs_f32()))
            }
            Self::Busy { .. } => {
                return Problem::rate_limited("too many pictures are being fetched, try again", Duration::from_secs(1))
                    .with_error_type("concurrent_requests_limit");
            }
        };
        Problem::invalid(vec![FieldError::at(field, kind, format!("Could not load image from url: {shown} ({why})"))])
    }
}

impl ToProblem for FetchError {
    fn to_problem(&self) -> Problem {
        self.at("image_url", "the input picture")
    }
}

/// Why fetching cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchSetupError {
    /// The file of certificate authorities cannot be used.
    #[error("host.fetch.ca_file {} cannot be used", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TLS itself cannot be set up.
    #[error("TLS for fetching cannot be set up")]
    Tls(#[source] rustls::Error),
}
