//! The keys at hand: the first one signs, the others are believed until they end.

use super::TokenAlgorithm;
use super::key::{TokenKey, TokenKeyFault};

/// More keys than any rotation leaves.
const MOST_KEYS: usize = 32;

/// Signing keys, the one that signs first.
#[derive(Debug)]
pub(in crate::guard) struct TokenKeys(Vec<TokenKey>);

impl TokenKeys {
    /// Reads keys, one a line; blank lines and those that start with `#` are skipped.
    pub(super) fn read(text: &str, algorithm: TokenAlgorithm) -> Result<Self, TokenKeyFault> {
        let mut keys: Vec<TokenKey> = Vec::new();
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = TokenKey::read(line).filter(|_| keys.len() < MOST_KEYS);
            keys.push(key.ok_or(TokenKeyFault::Line { line: at + 1 })?);
        }
        let first = keys.first().ok_or(TokenKeyFault::None)?;
        if first.until.is_some() {
            return Err(TokenKeyFault::FirstEnds);
        }
        if first.algorithm != algorithm {
            let (found, wanted) = (first.algorithm.as_str(), algorithm.as_str());
            return Err(TokenKeyFault::Algorithm { found, wanted });
        }
        Ok(Self(keys))
    }

    /// The key that signs.
    pub(in crate::guard) fn signing(&self) -> &TokenKey {
        self.0.first().expect("a list without a key is not read")
    }

    /// The key of this name, if it is believed at `now`, in seconds since 1970.
    pub(in crate::guard) fn find(&self, id: &str, now: u64) -> Option<&TokenKey> {
        self.0.iter().find(|key| key.id == id && key.is_believed(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "HS256 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const B: &str = "EdDSA BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";

    fn read(text: &str) -> Result<TokenKeys, TokenKeyFault> {
        TokenKeys::read(text, TokenAlgorithm::Hs256)
    }

    #[test]
    fn the_first_key_signs_and_the_others_are_believed_until_they_end() {
        let keys = read(&format!("# made by hand\n\n{A}\n{B} until=100\n")).unwrap();
        let old = TokenKey::read(B).unwrap().id;
        assert_ne!(keys.signing().id, old);
        assert!(keys.find(&old, 99).is_some() && keys.find(&old, 100).is_none());
        assert!(keys.find(&keys.signing().id.clone(), u64::MAX).is_some());
        assert!(keys.find("", 0).is_none());
    }

    #[test]
    fn a_list_that_cannot_sign_is_refused_without_showing_it() {
        let fault = |text: &str| read(text).unwrap_err();
        assert_eq!(fault("# nothing\n"), TokenKeyFault::None);
        assert_eq!(fault(&format!("{A} until=12")), TokenKeyFault::FirstEnds);
        assert_eq!(fault(&format!("{A}\nHS256 canary")), TokenKeyFault::Line { line: 2 });
        assert_eq!(fault(B), TokenKeyFault::Algorithm { found: "EdDSA", wanted: "HS256" });
        assert!(!fault("canary").to_string().contains("canary"));
        assert_eq!(fault(&format!("{A}\n").repeat(33)), TokenKeyFault::Line { line: 33 });
    }
}
