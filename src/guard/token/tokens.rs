//! Mints and checks, with the keys at hand.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation};
use prometheus_client::registry::Registry;
use secrecy::SecretString;

use super::check::{TokenFault, TokenUse};
use super::claims::{Claims, seconds};
use super::key_file::{self, Stamp, TokenKeyError};
use super::keys::TokenKeys;
use super::metrics::TokenMetrics;
use super::mint::{Grant, MintFault, Minted, TOKEN_BYTES};
use super::seats::{Seats, TokenHolder};
use super::settings::{TokenKeySource, TokenSettings};
use crate::guard::{Caller, Tier};

/// Mints tokens and checks them. Clones share keys and seats.
///
/// A check asks nobody: what a token says is signed, so it holds across a restart and on every gate with the same keys.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    settings: TokenSettings,
    keys: ArcSwap<TokenKeys>,
    seats: Arc<Seats>,
    metrics: TokenMetrics,
    /// What the key file looked like when it was last read.
    seen: Mutex<Option<Stamp>>,
}

impl Tokens {
    /// Reads the signing keys, or makes one where the settings name a file that is not there. `look_up` gives the value of
    /// an environment variable: this library reads none itself.
    ///
    /// # Errors
    /// [`TokenKeyError`] if there is no key to sign with, and none could be kept.
    pub fn open(settings: &TokenSettings, look_up: impl Fn(&str) -> Option<String>) -> Result<Self, TokenKeyError> {
        let seen = key_file::stamp(&settings.keys);
        let keys = key_file::open(&settings.keys, settings.algorithm, look_up)?;
        // A file that was made just now has a stamp only after that.
        let seen = seen.or_else(|| key_file::stamp(&settings.keys));
        Ok(Self(Arc::new(Inner {
            settings: settings.clone(),
            keys: ArcSwap::from_pointee(keys),
            seats: Arc::default(),
            metrics: TokenMetrics::default(),
            seen: Mutex::new(seen),
        })))
    }

    /// Shows in `registry` how many tokens are minted, and how many are refused for what.
    pub fn show(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &TokenSettings {
        &self.0.settings
    }

    /// Mints a token.
    ///
    /// # Errors
    /// [`MintFault`] for a grant of nothing, and for one that is too long.
    pub fn mint(&self, grant: &Grant) -> Result<Minted, MintFault> {
        if grant.apps.is_empty() {
            return Err(MintFault::NoApp);
        }
        let settings = &self.0.settings;
        let iat = seconds(grant.now);
        let exp = iat + settings.life.clamp(grant.life).as_secs();
        let claims = Claims {
            iss: settings.issuer.clone(),
            aud: settings.issuer.clone(),
            sub: grant.caller.as_deref().map(str::to_owned),
            tier: grant.tier.as_deref().map(str::to_owned),
            apps: grant.apps.clone(),
            iat,
            exp,
            jti: format!("{:032x}", rand::random::<u128>()),
            origin: grant.origin.clone(),
        };
        let keys = self.0.keys.load();
        let key = keys.signing();
        let mut header = Header::new(key.algorithm.in_jwt());
        header.kid = Some(key.id.clone());
        let token = jsonwebtoken::encode(&header, &claims, &key.sign).map_err(MintFault::Sign)?;
        if token.len() > TOKEN_BYTES {
            return Err(MintFault::TooLong { apps: claims.apps.len() });
        }
        self.0.metrics.minted();
        Ok(Minted { token: SecretString::from(token), expires: UNIX_EPOCH + Duration::from_secs(exp) })
    }

    /// Checks a token that is shown to open something.
    ///
    /// # Errors
    /// [`TokenFault`] unless it is signed by a key of this gate's, its time has come and is not over, and it is for this
    /// app and this page.
    pub fn check(&self, token: &str, used: &TokenUse<'_>) -> Result<TokenHolder, TokenFault> {
        self.judge(token, used).inspect_err(|fault| self.0.metrics.refused(*fault))
    }

    fn judge(&self, token: &str, used: &TokenUse<'_>) -> Result<TokenHolder, TokenFault> {
        if token.len() > TOKEN_BYTES {
            return Err(TokenFault::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenFault::Malformed)?;
        let (None, Some(id)) = (&header.crit, &header.kid) else { return Err(TokenFault::Malformed) };
        let keys = self.0.keys.load();
        let key = keys.find(id, seconds(used.now)).ok_or(TokenFault::UnknownKey)?;
        let settings = &self.0.settings;
        // The key decides how it is checked, whatever the header says. Times are judged below, by the caller's clock.
        let mut rules = Validation::new(key.algorithm.in_jwt());
        rules.validate_exp = false;
        rules.set_issuer(&[&settings.issuer]);
        rules.set_audience(&[&settings.issuer]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key.check, &rules).map_err(|error| fault(error.kind()))?;
        let claims = claims.claims;
        claims.judge(used, Duration::from_secs(settings.leeway_s.into()))?;
        let token = claims.id()?;
        Ok(TokenHolder {
            caller: claims.sub.map(|name| Caller { name: name.into() }),
            tier: claims.tier.map(|tier| Tier(tier.into())),
            expires: UNIX_EPOCH + Duration::from_secs(claims.exp),
            token,
            most: settings.sockets_per_token,
            seats: Arc::clone(&self.0.seats),
            metrics: self.0.metrics.clone(),
        })
    }

    /// Reads the key file again, changed or not.
    ///
    /// # Errors
    /// [`TokenKeyError`] for a file that cannot be read or holds no key. The keys then stay as they were.
    pub fn reload(&self) -> Result<(), TokenKeyError> {
        let Some(path) = self.file() else { return Ok(()) };
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that is wrong is complained of once, not at every look.
        *seen = key_file::stamp(&self.0.settings.keys);
        let keys = key_file::read(path, self.0.settings.algorithm)?;
        self.0.keys.store(Arc::new(keys));
        Ok(())
    }

    /// Looks at the key file every so often and reads it again when it changed. Never ends; dropping it stops it.
    ///
    /// A file that cannot be read or holds no key is logged, and the keys stay as they were.
    pub async fn watch(self, every: Duration) {
        if self.file().is_none() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(every).await;
            let tokens = self.clone();
            let looked = tokio::task::spawn_blocking(move || tokens.has_changed().then(|| tokens.reload())).await;
            match looked {
                Ok(Some(Ok(()))) => tracing::info!("read the token keys again"),
                Ok(Some(Err(error))) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "kept the token keys at hand");
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn has_changed(&self) -> bool {
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        key_file::stamp(&self.0.settings.keys) != *seen
    }

    fn file(&self) -> Option<&PathBuf> {
        match &self.0.settings.keys {
            TokenKeySource::File(path) => Some(path),
            TokenKeySource::Env(_) | TokenKeySource::Memory => None,
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokens").field("keys", &self.0.keys.load()).finish_non_exhaustive()
    }
}

const fn fault(kind: &ErrorKind) -> TokenFault {
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenFault::Signature,
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => TokenFault::Foreign,
        // Of the others none is met with a token that this gate has signed.
        _ => TokenFault::Malformed,
    }
}
