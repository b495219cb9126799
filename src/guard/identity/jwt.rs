//! Checks the application's own tokens, and remembers what it checked.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use jsonwebtoken::Validation;
use jsonwebtoken::errors::ErrorKind;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::jwks::{AskKeys, Jwks, KeysError};
use super::jwt_keys::JwtKeys;
use super::jwt_settings::{JwtKeySource, JwtSettings};
use crate::wire::{Problem, ToProblem};

/// Longest token that is looked at.
const TOKEN_BYTES: usize = 16 * 1024;
/// Longest name of a caller or tier. They stand in logs and stores, and so hold no control characters either.
const NAME_BYTES: usize = 256;

/// Who a token says is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The caller's name.
    pub caller: Arc<str>,
    /// The caller's tier, where the token names one.
    pub tier: Option<Arc<str>>,
    /// When the token ends, in seconds since 1970.
    pub until: u64,
}

/// Why a token is not believed. It never shows the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtFault {
    /// It is no JWT.
    #[error("token is malformed")]
    Malformed,
    /// Its key is not known, and no newer keys could be had.
    #[error("token is signed with an unknown key")]
    UnknownKey,
    /// Its signature is not its key's, or its algorithm is not allowed.
    #[error("token is not signed as it should be")]
    Signature,
    /// It is another issuer's, or for somebody else.
    #[error("token has another issuer or audience")]
    Foreign,
    /// Its time has not come, or is over.
    #[error("token is not valid at this time")]
    Time,
    /// A claim that it must have is not there.
    #[error("token lacks the claim {claim}")]
    Lacks {
        /// The claim.
        claim: String,
    },
}

impl ToProblem for JwtFault {
    fn to_problem(&self) -> Problem {
        let sentence = match self {
            Self::Malformed | Self::UnknownKey | Self::Signature | Self::Foreign => "The bearer token is not valid",
            Self::Time => "The bearer token has expired",
            Self::Lacks { .. } => "The bearer token lacks a claim",
        };
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        Problem::new(StatusCode::UNAUTHORIZED, sentence).with_header(WWW_AUTHENTICATE, challenge)
    }
}

/// Checks the application's own tokens. Clones share keys and memory.
///
/// A checked token is remembered by its hash, for as long as it holds and the keys stay the same: a signature of ES256
/// costs more than the rest of a call. The memory is bounded; what falls out is checked again.
#[derive(Clone)]
pub struct JwtVerifier(Arc<Inner>);

struct Inner {
    settings: JwtSettings,
    /// The keys, and how often they changed: what was checked with older ones is not believed.
    keys: ArcSwap<(u64, JwtKeys)>,
    checked: moka::sync::Cache<[u8; 32], (u64, Known)>,
    jwks: Option<Jwks>,
}

impl std::fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtVerifier").field("issuer", &self.0.settings.issuer).finish_non_exhaustive()
    }
}

impl JwtVerifier {
    /// Reads or fetches the keys. `look_up` gives the value of an environment variable, `ask` fetches a key set.
    ///
    /// # Errors
    /// [`KeysError`] if there are no keys to check with: nobody would be let in, or everybody.
    pub async fn open(
        settings: JwtSettings,
        look_up: impl Fn(&str) -> Option<String>,
        ask: Arc<dyn AskKeys>,
    ) -> Result<Self, KeysError> {
        let (keys, jwks) = match &settings.keys {
            JwtKeySource::SecretEnv(name) => {
                let secret = look_up(name).ok_or_else(|| KeysError::Unset { name: name.clone() })?;
                (JwtKeys::secret(secret.trim().as_bytes()), None)
            }
            JwtKeySource::PemFile(path) => {
                let unreadable = |cause| KeysError::Unreadable { path: path.clone(), cause };
                (JwtKeys::pem(&std::fs::read(path).map_err(unreadable)?), None)
            }
            JwtKeySource::JwksUrl(url) => {
                let jwks = Jwks::new(url.clone(), ask, std::time::Duration::from_secs(settings.refresh_s.get()));
                (JwtKeys::set(&jwks.fetch().await?), Some(jwks))
            }
        };
        let checked = moka::sync::Cache::new(u64::from(settings.cache_entries.get()));
        let keys = ArcSwap::from_pointee((0, keys.map_err(KeysError::Fault)?));
        Ok(Self(Arc::new(Inner { settings, keys, checked, jwks })))
    }

    /// Checks a token at `now`. A token whose key is unknown makes the key set be fetched again, at most every ten seconds
    /// and once for all who wait.
    ///
    /// # Errors
    /// [`JwtFault`] unless it is signed by a key of the issuer's, for this audience, at this time, with all its claims.
    pub async fn check(&self, token: &str, now: SystemTime) -> Result<Known, JwtFault> {
        let inner = &*self.0;
        if token.len() > TOKEN_BYTES {
            return Err(JwtFault::Malformed);
        }
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if let Some(jwks) = &inner.jwks {
            jwks.renew_if_old(|json| inner.take_keys(json)).await;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some((version, known)) = inner.checked.get(&digest)
            && version == inner.keys.load().0
        {
            let leeway = u64::from(inner.settings.leeway_s);
            return if seconds < known.until.saturating_add(leeway) { Ok(known) } else { Err(JwtFault::Time) };
        }
        let mut verified = inner.verify(token, seconds);
        if let (Err(JwtFault::UnknownKey), Some(jwks)) = (&verified, &inner.jwks) {
            jwks.renew(|json| inner.take_keys(json)).await;
            verified = inner.verify(token, seconds);
        }
        let (version, known) = verified?;
        inner.checked.insert(digest, (version, known.clone()));
        Ok(known)
    }
}

impl Inner {
    /// Takes a newly fetched key set; one without a usable key changes nothing.
    fn take_keys(&self, json: &[u8]) {
        match JwtKeys::set(json) {
            Ok(keys) => self.keys.store(Arc::new((self.keys.load().0 + 1, keys))),
            Err(error) => tracing::warn!(%error, "kept the keys of the token issuer at hand (guard.jwt.keys)"),
        }
    }

    fn verify(&self, token: &str, now: u64) -> Result<(u64, Known), JwtFault> {
        let settings = &self.settings;
        let header = jsonwebtoken::decode_header(token).map_err(|_| JwtFault::Malformed)?;
        if header.crit.is_some() {
            return Err(JwtFault::Malformed);
        }
        let held = self.keys.load();
        let (version, keys) = &**held;
        let key = &keys.find(header.kid.as_deref()).ok_or(JwtFault::UnknownKey)?.key;
        // Only what the settings allow and this key can do, whatever the header says (RFC 8725 section 3.1).
        let allowed = settings.algorithms.iter().map(|algorithm| algorithm.in_jwt());
        let allowed: Vec<_> = allowed.filter(|algorithm| algorithm.family() == key.family()).collect();
        let first = *allowed.first().ok_or(JwtFault::Signature)?;
        let mut rules = Validation::new(first);
        rules.algorithms = allowed;
        // Times are judged below, by the caller's clock.
        rules.validate_exp = false;
        rules.set_issuer(&[&settings.issuer]);
        rules.set_audience(&[&settings.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims = jsonwebtoken::decode::<Map<String, Value>>(token, key, &rules);
        let claims = claims.map_err(|error| fault(error.kind()))?.claims;
        Ok((*version, self.read(&claims, now)?))
    }

    fn read(&self, claims: &Map<String, Value>, now: u64) -> Result<Known, JwtFault> {
        let settings = &self.settings;
        let lacks = |claim: &str| JwtFault::Lacks { claim: claim.to_owned() };
        let leeway = u64::from(settings.leeway_s);
        let until = claims.get("exp").and_then(seconds).ok_or_else(|| lacks("exp"))?;
        let from = claims.get("nbf").and_then(seconds).unwrap_or(0);
        if now >= until.saturating_add(leeway) || from > now.saturating_add(leeway) {
            return Err(JwtFault::Time);
        }
        if let Some(claim) = settings.required_claims.iter().find(|claim| !claims.contains_key(*claim)) {
            return Err(lacks(claim));
        }
        let name = |claim: &str| {
            let text = match claims.get(claim)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
            };
            let is_plain = !text.chars().any(char::is_control);
            (!text.is_empty() && text.len() <= NAME_BYTES && is_plain).then(|| Arc::<str>::from(text))
        };
        let caller = name(&settings.caller_claim).ok_or_else(|| lacks(&settings.caller_claim))?;
        let tier = settings.tier_claim.as_deref().and_then(name);
        Ok(Known { caller, tier, until })
    }
}

/// A NumericDate (RFC 7519 section 2): seconds, with or without a fraction.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is meant")]
    value.as_u64().or_else(|| value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64))
}

fn fault(kind: &ErrorKind) -> JwtFault {
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            JwtFault::Signature
        }
        ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => JwtFault::Foreign,
        ErrorKind::MissingRequiredClaim(claim) => JwtFault::Lacks { claim: claim.clone() },
        _ => JwtFault::Malformed,
    }
}
