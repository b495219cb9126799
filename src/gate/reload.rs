//! What is read again when the gate is told to: keys, certificates, and the limits of the configuration.

use std::sync::Arc;

use tokio::sync::Notify;

use super::accept::TlsKeeper;
use crate::config::{Config, Faults};
use crate::guard::{AccessKeys, Limits, Prices, Tokens};
use crate::upstream::KeyRing;

/// Why the configuration cannot be read again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RereadError {
    /// Its file cannot be read.
    #[error("cannot read the configuration")]
    Unreadable(#[source] std::io::Error),
    /// It is wrong.
    #[error(transparent)]
    Faults(#[from] Faults),
}

/// Reads the configuration again, from wherever it came from. It may block on a file.
pub type Reread = Arc<dyn Fn() -> Result<Config, RereadError> + Send + Sync>;

/// Everything that can be read again.
pub(super) struct Files {
    pub(super) keys: Option<KeyRing>,
    pub(super) access_keys: Option<AccessKeys>,
    pub(super) tokens: Option<Tokens>,
    pub(super) tls: Option<TlsKeeper>,
    pub(super) limits: (Limits, Prices),
    pub(super) reread: Option<Reread>,
}

impl Files {
    /// Reads all of it each time `told` is notified. What cannot be used is said, and what is at hand is kept.
    pub(super) async fn reload_when_told(self, told: Arc<Notify>) {
        loop {
            told.notified().await;
            if let Some(keys) = &self.keys {
                match keys.reload() {
                    Ok(()) => tracing::info!("read the fal key files again"),
                    Err(error) => tracing::error!(%error, "kept the fal keys at hand"),
                }
            }
            if let Some(keys) = &self.access_keys {
                match keys.reload() {
                    Ok(()) => tracing::info!("read the access keys again"),
                    Err(error) => tracing::error!(%error, "kept the access keys at hand"),
                }
            }
            if let Some(tokens) = &self.tokens {
                match tokens.reload() {
                    Ok(()) => tracing::info!("read the token keys again"),
                    Err(error) => tracing::error!(%error, "kept the token keys at hand"),
                }
            }
            if let Some(tls) = &self.tls {
                match tls.reload() {
                    Ok(()) => tracing::info!("read the certificate again"),
                    Err(error) => tracing::error!(%error, "kept the certificate at hand"),
                }
            }
            if let Some(reread) = &self.reread {
                self.reload_limits(&**reread);
            }
        }
    }

    fn reload_limits(&self, reread: &(dyn Fn() -> Result<Config, RereadError> + Send + Sync)) {
        let config = match reread() {
            Ok(config) => config,
            Err(RereadError::Unreadable(error)) => {
                return tracing::error!(%error, "kept the limits at hand: the configuration cannot be read");
            }
            Err(RereadError::Faults(Faults(faults))) => {
                for fault in faults {
                    tracing::error!(key = fault.key, "kept the limits at hand: {fault}");
                }
                return;
            }
        };
        let (limits, prices) = &self.limits;
        match limits.replace(&config.limits) {
            Ok(fixed) => {
                prices.replace(&config.limits);
                for key in fixed {
                    tracing::warn!(key = format!("limits.{key}"), "is another now, which holds from the next start");
                }
                tracing::info!("read the limits again");
            }
            Err(error) => tracing::error!(%error, "kept the limits at hand"),
        }
    }
}
