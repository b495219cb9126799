//! `[guard.jwt]`: the application's own tokens.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use serde::{Deserialize, Serialize};

/// Bearer tokens that the application's own login gives out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// Who must have issued a token (`iss`).
    pub issuer: String,
    /// For whom it must be (`aud`).
    pub audience: String,
    /// How it may be signed. Keys that do not fit are not used for it.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the keys are: `{ secret_env = "…" }` for HS256 to HS512, `{ pem_file = "…" }` for one public key, or
    /// `{ jwks_url = "https://…" }` for keys that rotate.
    pub keys: JwtKeySource,
    /// The claim that names the caller.
    #[serde(default = "sub")]
    pub caller_claim: String,
    /// The claim that names the caller's tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_claim: Option<String>,
    /// Claims that a token must have beside `iss`, `aud` and `exp`.
    #[serde(default)]
    pub required_claims: Vec<String>,
    /// Clock difference that is forgiven, in seconds.
    #[serde(default = "leeway")]
    pub leeway_s: u32,
    /// Tokens whose check is remembered until they expire or the keys change.
    #[serde(default = "cache")]
    pub cache_entries: NonZeroU32,
    /// Age at which keys from a URL are fetched again, in seconds.
    #[serde(default = "refresh")]
    pub refresh_s: NonZeroU64,
}

fn sub() -> String {
    "sub".to_owned()
}

const fn leeway() -> u32 {
    30
}

fn cache() -> NonZeroU32 {
    NonZeroU32::new(10_000).expect("not zero")
}

fn refresh() -> NonZeroU64 {
    NonZeroU64::new(600).expect("not zero")
}

/// Where the keys of a token's issuer are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum JwtKeySource {
    /// A variable that holds a shared secret of at least 32 bytes.
    SecretEnv(String),
    /// A file with one public key: RSA, EC or Ed25519, in PEM.
    PemFile(PathBuf),
    /// A URL of a JSON Web Key Set (RFC 7517).
    JwksUrl(String),
}

/// How a token may be signed. There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[expect(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    #[serde(rename = "EdDSA")]
    EdDSA,
}

impl JwtAlgorithm {
    /// The same as the JWT library names it.
    pub(super) const fn in_jwt(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }

    /// Whether the key that checks could also sign.
    pub(super) const fn is_shared(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

impl JwtSettings {
    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: &str| faults.push((key.to_owned(), why.to_owned()));
        for (key, value) in
            [("issuer", &self.issuer), ("audience", &self.audience), ("caller_claim", &self.caller_claim)]
        {
            if value.is_empty() {
                fault(key, "is empty");
            }
        }
        let shared = matches!(self.keys, JwtKeySource::SecretEnv(_));
        if self.algorithms.is_empty() {
            fault("algorithms", "names none, so no token could be believed");
        } else if self.algorithms.iter().any(|algorithm| algorithm.is_shared() != shared) {
            // The classic confusion: a public key taken for the secret of an HMAC (RFC 8725 section 2.1).
            fault("algorithms", "HS256, HS384 and HS512 go with `secret_env`, and all others with public keys");
        }
        if let JwtKeySource::JwksUrl(url) = &self.keys {
            let is_local = ["http://127.0.0.1:", "http://[::1]:", "http://localhost:"];
            if !url.starts_with("https://") && !is_local.iter().any(|start| url.starts_with(start)) {
                fault("keys.jwks_url", "is no https URL; plain http is for this machine only");
            }
        }
        if self.leeway_s > 300 {
            fault("leeway_s", "is more than five minutes");
        }
        faults
    }
}
