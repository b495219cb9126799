//! The keys of a token's issuer, each with what it may check.

use jsonwebtoken::jwk::{JwkSet, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};

/// More keys than any issuer has.
const MOST_KEYS: usize = 64;
/// The shortest secret that HS256 should be given (RFC 7518 section 3.2).
const SECRET_BYTES: usize = 32;

/// Why there are no keys to check with. It never shows one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtKeyFault {
    /// The secret is too short to keep anybody out.
    #[error("the secret has fewer than {SECRET_BYTES} bytes")]
    Short,
    /// The text is no public key.
    #[error("the file holds no public key of RSA, EC or Ed25519 in PEM")]
    Pem,
    /// The text is no key set.
    #[error("the answer is no JSON Web Key Set")]
    Set,
    /// None of the keys can check anything.
    #[error("none of the {count} keys can check a signature")]
    NoneFits {
        /// How many there were.
        count: usize,
    },
}

/// The keys at hand.
#[derive(Debug)]
pub(super) struct JwtKeys(Vec<JwtKey>);

/// One key.
pub(super) struct JwtKey {
    /// Its name in the set; a single key has none and checks every token.
    id: Option<String>,
    pub(super) key: DecodingKey,
}

impl std::fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl JwtKeys {
    /// One shared secret.
    pub(super) fn secret(secret: &[u8]) -> Result<Self, JwtKeyFault> {
        if secret.len() < SECRET_BYTES {
            return Err(JwtKeyFault::Short);
        }
        Ok(Self(vec![JwtKey { id: None, key: DecodingKey::from_secret(secret) }]))
    }

    /// One public key.
    pub(super) fn pem(text: &[u8]) -> Result<Self, JwtKeyFault> {
        let key = DecodingKey::from_rsa_pem(text).or_else(|_| DecodingKey::from_ec_pem(text));
        let key = key.or_else(|_| DecodingKey::from_ed_pem(text)).map_err(|_| JwtKeyFault::Pem)?;
        Ok(Self(vec![JwtKey { id: None, key }]))
    }

    /// The keys of a set that check signatures. Others in it, and shared secrets, which a public set cannot hold, are
    /// passed over.
    pub(super) fn set(json: &[u8]) -> Result<Self, JwtKeyFault> {
        let set: JwkSet = serde_json::from_slice(json).map_err(|_| JwtKeyFault::Set)?;
        let count = set.keys.len();
        let keys = set.keys.iter().take(MOST_KEYS).filter_map(|jwk| {
            let signs = jwk.common.public_key_use.as_ref().is_none_or(|use_| *use_ == PublicKeyUse::Signature);
            let key = DecodingKey::from_jwk(jwk).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
            signs.then(|| JwtKey { id: jwk.common.key_id.clone(), key })
        });
        let keys: Vec<JwtKey> = keys.collect();
        if keys.is_empty() {
            return Err(JwtKeyFault::NoneFits { count });
        }
        Ok(Self(keys))
    }

    /// The key for a token: by its name, or the only one.
    pub(super) fn find(&self, id: Option<&str>) -> Option<&JwtKey> {
        match (self.0.as_slice(), id) {
            ([only], _) if only.id.is_none() => Some(only),
            ([only], None) => Some(only),
            (keys, Some(id)) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (_, None) => None,
        }
    }
}
