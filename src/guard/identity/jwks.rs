//! Keys from a URL: fetched by one for all, never more often than the issuer can bear.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::jwt_keys::JwtKeyFault;

/// Time between two fetches, whatever tokens come: a flood of made-up key names is not the issuer's trouble.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// Fetches a key set. The guard dials nobody itself: the gate gives it this.
pub trait AskKeys: Send + Sync {
    /// Fetches `url`, within a bound of time and bytes of its own. Only the body of a 200 is an answer.
    fn ask(&self, url: &str) -> AskedKeys;
}

/// A key set under way.
pub type AskedKeys = Pin<Box<dyn Future<Output = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Send>>;

/// Why there are no keys to check tokens with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The variable of the secret is not set.
    #[error("the variable {name} is not set (guard.jwt.keys.secret_env)")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The file of the public key cannot be read.
    #[error("cannot read {} (guard.jwt.keys.pem_file)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The issuer does not hand out its keys.
    #[error("the key set cannot be fetched from {url} (guard.jwt.keys.jwks_url)")]
    Fetch {
        /// The URL.
        url: String,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is there are no keys.
    #[error("the keys of the token issuer cannot be used (guard.jwt.keys)")]
    Fault(#[source] JwtKeyFault),
}

/// A key set's URL, and when it was last asked.
pub(super) struct Jwks {
    url: String,
    ask: Arc<dyn AskKeys>,
    refresh: Duration,
    asked: Mutex<Option<Instant>>,
}

impl Jwks {
    pub(super) fn new(url: String, ask: Arc<dyn AskKeys>, refresh: Duration) -> Self {
        Self { url, ask, refresh, asked: Mutex::new(None) }
    }

    /// Fetches the set.
    pub(super) async fn fetch(&self) -> Result<Bytes, KeysError> {
        let mut asked = self.asked.lock().await;
        *asked = Some(Instant::now());
        self.ask.ask(&self.url).await.map_err(|cause| KeysError::Fetch { url: self.url.clone(), cause })
    }

    /// Fetches the set again where it is older than it should be, and hands it to `take`; nobody waits for somebody else's
    /// fetch.
    pub(super) async fn renew_if_old(&self, take: impl FnOnce(&[u8])) {
        if let Ok(mut asked) = self.asked.try_lock()
            && asked.is_some_and(|at| at.elapsed() >= self.refresh)
        {
            self.renew_under(&mut asked, take).await;
        }
    }

    /// Fetches the set again and hands it to `take`, unless that was done just now. Who comes while somebody fetches waits,
    /// and finds that answer's keys taken.
    pub(super) async fn renew(&self, take: impl FnOnce(&[u8])) {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|at| at.elapsed() >= LEAST_PAUSE) {
            self.renew_under(&mut asked, take).await;
        }
    }

    async fn renew_under(&self, asked: &mut Option<Instant>, take: impl FnOnce(&[u8])) {
        *asked = Some(Instant::now());
        match self.ask.ask(&self.url).await {
            Ok(json) => take(&json),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &*error;
                tracing::warn!(error, "kept the keys of the token issuer at hand (guard.jwt.keys.jwks_url)");
            }
        }
    }
}
