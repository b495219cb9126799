//! One access key, and its line in a list.

use sha2::{Digest, Sha256};

use crate::guard::Caller;

/// Shorter keys can be guessed.
const LEAST_KEY_BYTES: usize = 16;
/// Longest name of a caller or a tier: they stand in logs and stores.
const NAME_BYTES: usize = 64;
/// What stands before the hash of a key.
pub(super) const HASHED: &str = "sha256:";
const TIER: &str = "tier=";

/// Why a list of keys cannot be used. It never shows a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// There is no key in the list, so nobody could call.
    #[error("there is no access key")]
    None,
    /// A line has another form.
    #[error("line {line} is not `<key>` or `<name> <key>`, with or without `tier=<tier>` behind it")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A key is too short.
    #[error("the key in line {line} has fewer than {LEAST_KEY_BYTES} characters")]
    Short {
        /// The line, from 1.
        line: usize,
    },
    /// A hash is none.
    #[error("line {line} has no 64 hexadecimal digits behind `sha256:`")]
    Hash {
        /// The line, from 1.
        line: usize,
    },
    /// A name is too long, or is one that only visitors have.
    #[error("the name in line {line} is longer than {NAME_BYTES} characters or begins with `visitor-`")]
    Name {
        /// The line, from 1.
        line: usize,
    },
}

/// A key, of which only the hash is kept.
#[derive(Clone)]
pub(super) struct AccessKey {
    pub(super) caller: Caller,
    pub(super) tier: Option<std::sync::Arc<str>>,
    pub(super) digest: [u8; 32],
}

impl AccessKey {
    /// Reads line `line` of a list; `None` if it holds no key. A key without a name is the `count`th of its list.
    pub(super) fn read(text: &str, (line, count): (usize, usize)) -> Result<Option<Self>, KeyFault> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            return Ok(None);
        }
        let last = words.last().and_then(|word| word.strip_prefix(TIER)).filter(|_| words.len() > 1);
        if last.is_some() {
            words.pop();
        }
        let (name, key) = match words[..] {
            [key] => (format!("key-{count}"), key),
            [name, key] => (name.to_owned(), key),
            _ => return Err(KeyFault::Line { line }),
        };
        let caller = Caller { name: name.into() };
        let long = |name: &str| name.is_empty() || name.len() > NAME_BYTES;
        if long(&caller.name) || last.is_some_and(long) || caller.is_visitor() {
            return Err(KeyFault::Name { line });
        }
        let digest = match key.strip_prefix(HASHED) {
            Some(digits) => read_hash(digits).ok_or(KeyFault::Hash { line })?,
            None if !key.bytes().all(|byte| byte.is_ascii_graphic()) => return Err(KeyFault::Line { line }),
            None if key.len() < LEAST_KEY_BYTES => return Err(KeyFault::Short { line }),
            None => digest(key.as_bytes()),
        };
        Ok(Some(Self { caller, tier: last.map(Into::into), digest }))
    }
}

pub(super) fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn read_hash(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    // `+f` is a number to Rust.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_a_key_or_its_hash_with_or_without_a_tier() {
        let plain = AccessKey::read("ann 0123:canary-of-ann-0123", (1, 1)).unwrap().unwrap();
        let hex: String = plain.digest.iter().map(|byte| format!("{byte:02x}")).collect();
        for line in [format!("ann sha256:{hex}"), format!(" ann\tsha256:{} ", hex.to_uppercase())] {
            let hashed = AccessKey::read(&line, (1, 1)).unwrap().unwrap();
            assert_eq!((hashed.digest, hashed.tier), (plain.digest, None), "{line}");
        }
        let tiered = AccessKey::read(&format!("sha256:{hex} tier=pro"), (1, 3)).unwrap().unwrap();
        assert_eq!((&*tiered.caller.name, tiered.tier.as_deref()), ("key-3", Some("pro")));
        assert!(AccessKey::read("  # comment", (1, 1)).unwrap().is_none());
    }

    #[test]
    fn a_line_that_cannot_be_meant_is_refused() {
        let fault = |line: &str| AccessKey::read(line, (7, 1)).err();
        let zeros = "0".repeat(64);
        assert_eq!(fault("a sha256:00"), Some(KeyFault::Hash { line: 7 }));
        assert_eq!(fault(&format!("a sha256:+{}", &zeros[1..])), Some(KeyFault::Hash { line: 7 }));
        assert_eq!(fault(&format!("a sha256:é{}", &zeros[2..])), Some(KeyFault::Hash { line: 7 }));
        assert_eq!(fault("a b c"), Some(KeyFault::Line { line: 7 }));
        assert_eq!(fault("a 0123456789abcdef tier="), Some(KeyFault::Name { line: 7 }));
        assert_eq!(fault("visitor-1 0123456789abcdef"), Some(KeyFault::Name { line: 7 }));
        assert_eq!(fault("tier=pro"), Some(KeyFault::Short { line: 7 }));
    }
}
