//! One signing key, and its line in a file.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::TokenAlgorithm;

/// Bytes of a key: of an Ed25519 seed, and of the shortest secret that HS256 should be given (RFC 7518 section 3.2).
const KEY_BYTES: usize = 32;
/// A PKCS#8 document of an Ed25519 key up to the seed (RFC 8410 section 7).
const ED25519_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why a line is no signing key. It never shows one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenKeyFault {
    /// There is no key in the list.
    #[error("there is no signing key")]
    None,
    /// A line has another form.
    #[error("line {line} is not `<algorithm> <base64 of 32 bytes> [until=<unix seconds>]`")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// The first key is about to end, and with it the gate's right to sign.
    #[error("the first key has an end (until=), but it is the one that signs")]
    FirstEnds,
    /// The first key signs in another way than it should.
    #[error("the first key signs with {found}, not with {wanted} (guard.tokens.algorithm)")]
    Algorithm {
        /// What it signs with.
        found: &'static str,
        /// What the settings say.
        wanted: &'static str,
    },
}

/// A key that signs and checks with one algorithm and no other.
pub(in crate::guard) struct TokenKey {
    /// What a token's header calls it. It follows from the key.
    pub(in crate::guard) id: String,
    pub(in crate::guard) algorithm: TokenAlgorithm,
    pub(in crate::guard) sign: EncodingKey,
    pub(in crate::guard) check: DecodingKey,
    /// When it is believed no more, in seconds since 1970.
    pub(super) until: Option<u64>,
}

impl TokenKey {
    /// Reads a key's line.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (algorithm, key, until) = (words.next()?, words.next()?, words.next());
        if words.next().is_some() {
            return None;
        }
        let algorithm = [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(algorithm))?;
        let until = match until {
            Some(until) => Some(until.strip_prefix("until=")?.parse().ok()?),
            None => None,
        };
        // Either alphabet, with the padding or without: what `openssl rand -base64 32` prints will do.
        let key: String = key.trim_end_matches('=').replace('+', "-").replace('/', "_");
        let key = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(key).ok()?;
        Self::new(algorithm, &key, until)
    }

    fn new(algorithm: TokenAlgorithm, key: &[u8], until: Option<u64>) -> Option<Self> {
        let (sign, check) = match algorithm {
            TokenAlgorithm::Hs256 if key.len() >= KEY_BYTES => {
                (EncodingKey::from_secret(key), DecodingKey::from_secret(key))
            }
            TokenAlgorithm::EdDsa if key.len() == KEY_BYTES => {
                let sign = EncodingKey::from_ed_der(&[&ED25519_HEAD, key].concat());
                let public = Jwk::from_encoding_key(&sign, Algorithm::EdDSA).ok()?;
                (sign, DecodingKey::from_jwk(&public).ok()?)
            }
            TokenAlgorithm::Hs256 | TokenAlgorithm::EdDsa => return None,
        };
        let digest =
            Sha256::new().chain_update("falgate token key ").chain_update(algorithm.as_str()).chain_update(key);
        let id = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Some(Self { id, algorithm, sign, check, until })
    }

    /// Whether tokens that it signed are believed at `now`, in seconds since 1970.
    pub(super) fn is_believed(&self, now: u64) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl TokenAlgorithm {
    pub(in crate::guard) const fn in_jwt(self) -> Algorithm {
        match self {
            Self::Hs256 => Algorithm::HS256,
            Self::EdDsa => Algorithm::EdDSA,
        }
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenKey").field("id", &self.id).field("until", &self.until).finish_non_exhaustive()
    }
}

/// Writes the line of a new key.
pub(super) fn new_line(algorithm: TokenAlgorithm) -> SecretString {
    let key: [u8; KEY_BYTES] = rand::random();
    let key = SecretString::from(base64_simd::URL_SAFE_NO_PAD.encode_to_string(key));
    SecretString::from(format!("{} {}", algorithm.as_str(), key.expose_secret()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_line_is_a_key_of_its_algorithm() {
        for algorithm in [TokenAlgorithm::Hs256, TokenAlgorithm::EdDsa] {
            let line = new_line(algorithm);
            let key = TokenKey::read(line.expose_secret()).unwrap();
            assert_eq!((key.algorithm, key.until, key.id.len()), (algorithm, None, 16));
            assert_ne!(key.id, TokenKey::read(new_line(algorithm).expose_secret()).unwrap().id);
            let secret = line.expose_secret().split(' ').nth(1).unwrap().to_owned();
            assert!(!format!("{key:?} {line:?}").contains(&secret));
        }
    }

    #[test]
    fn what_other_tools_print_is_a_key_too() {
        let padded = "+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=";
        let plain = "-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s";
        let (one, other) = (format!("HS256 {padded}"), format!("hs256  {plain} until=12"));
        assert_eq!(TokenKey::read(&one).unwrap().id, TokenKey::read(&other).unwrap().id);
        assert_eq!(TokenKey::read(&other).unwrap().until, Some(12));
    }

    #[test]
    fn the_public_half_of_a_known_seed_is_the_known_one() {
        // RFC 8032 section 7.1, test 1.
        let key = TokenKey::read("EdDSA nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let found: String = key.check.try_get_as_bytes().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, public);
    }

    #[test]
    fn what_is_no_key_is_none() {
        let key = "A".repeat(43);
        for line in [
            String::new(),
            "HS256".to_owned(),
            format!("none {key}"),
            format!("RS256 {key}"),
            format!("HS256 {}", &key[..42]),
            format!("EdDSA {key}AAAA"),
            format!("HS256 {key} until=soon"),
            format!("HS256 {key} 12"),
            format!("HS256 {key} until=12 x"),
            format!("HS256 {}!", &key[..42]),
        ] {
            assert!(TokenKey::read(&line).is_none(), "{line}");
        }
    }
}
