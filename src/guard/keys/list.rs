//! The keys at hand, and whose they are.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use http::HeaderValue;
use subtle::{Choice, ConstantTimeEq};

use super::line::{AccessKey, KeyFault, digest};
use super::open::{Source, Stamp};
use super::refusal::KeyRefusal;
use crate::guard::Caller;

/// Whoever showed a key of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyHolder {
    /// The name that stands beside the key, `key-1` for the first without one.
    pub caller: Caller,
    /// The tier that stands behind it.
    pub tier: Option<Arc<str>>,
}

/// The access keys, kept as SHA-256. Clones share them, also when the file is read again.
#[derive(Clone)]
pub struct AccessKeys(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) keys: ArcSwap<Vec<AccessKey>>,
    pub(super) sources: Vec<Source>,
    /// What the files looked like when they were last read.
    pub(super) seen: Mutex<Vec<Option<Stamp>>>,
}

impl std::fmt::Debug for AccessKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AccessKeys").field("keys", &self.0.keys.load().len()).finish_non_exhaustive()
    }
}

impl AccessKeys {
    /// Reads keys from texts, one key a line.
    ///
    /// # Errors
    /// [`KeyFault`] for the first line that cannot be used, and for no key at all.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyFault> {
        Ok(Self::of(parse(texts, 0)?, Vec::new()))
    }

    pub(super) fn of(keys: Vec<AccessKey>, sources: Vec<Source>) -> Self {
        let seen = Mutex::new(sources.iter().map(Source::stamp).collect());
        Self(Arc::new(Inner { keys: ArcSwap::from_pointee(keys), sources, seen }))
    }

    /// Finds the caller whose key the header holds. Takes the same time whichever key it is, and if it is none.
    ///
    /// # Errors
    /// [`KeyRefusal`] if it holds none.
    pub fn check(&self, authorization: Option<&HeaderValue>) -> Result<KeyHolder, KeyRefusal> {
        let value = authorization.ok_or(KeyRefusal::Missing)?.as_bytes();
        let space = value.iter().position(|byte| *byte == b' ').ok_or(KeyRefusal::Malformed)?;
        let (scheme, key) = (&value[..space], value[space + 1..].trim_ascii());
        let is_key = scheme.eq_ignore_ascii_case(b"key");
        let is_fit = if is_key { key.contains(&b':') } else { scheme.eq_ignore_ascii_case(b"bearer") };
        if !is_fit || key.is_empty() {
            return Err(KeyRefusal::Malformed);
        }
        let sent = digest(key);
        let keys = self.0.keys.load();
        let mut found = None;
        for known in keys.iter() {
            let same: Choice = known.digest.ct_eq(&sent);
            if bool::from(same) {
                found = Some(known);
            }
        }
        let found = found.ok_or(KeyRefusal::Unknown)?;
        Ok(KeyHolder { caller: found.caller.clone(), tier: found.tier.clone() })
    }
}

/// Reads lists. A key without a name is numbered after the `before` keys of other places.
pub(super) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>, before: usize) -> Result<Vec<AccessKey>, KeyFault> {
    let mut keys = Vec::new();
    for text in texts {
        for (at, line) in text.lines().enumerate() {
            keys.extend(AccessKey::read(line, (at + 1, before + keys.len() + 1))?);
        }
    }
    if keys.is_empty() { Err(KeyFault::None) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::wire::ToProblem as _;

    fn keys() -> AccessKeys {
        AccessKeys::read([
            "# friends\nann 11111111:secret-of-ann\n\n22222222:secret-of-nobody\n",
            "bob tokentokentoken1 tier=pro",
        ])
        .unwrap()
    }

    fn check(header: &str) -> Result<String, KeyRefusal> {
        keys().check(Some(&HeaderValue::from_str(header).unwrap())).map(|holder| holder.caller.name.to_string())
    }

    #[test]
    fn a_known_key_names_its_caller() {
        assert_eq!(check("Key 11111111:secret-of-ann").unwrap(), "ann");
        assert_eq!(check("key  22222222:secret-of-nobody ").unwrap(), "key-2");
        assert_eq!(check("Bearer tokentokentoken1").unwrap(), "bob");
    }

    #[test]
    fn everything_else_is_refused_in_fals_words() {
        assert_eq!(check("Key 11111111:secret-of-bob"), Err(KeyRefusal::Unknown));
        assert_eq!(check("Key tokentokentoken1"), Err(KeyRefusal::Malformed));
        assert_eq!(check("Basic 11111111:secret-of-ann"), Err(KeyRefusal::Malformed));
        assert_eq!(check("Bearer "), Err(KeyRefusal::Malformed));
        assert_eq!(check("11111111:secret-of-ann"), Err(KeyRefusal::Malformed));
        assert_eq!(keys().check(None), Err(KeyRefusal::Missing));
        let problem = KeyRefusal::Unknown.to_problem();
        assert_eq!(
            (problem.status(), &*problem.message()),
            (StatusCode::UNAUTHORIZED, "No user found for Key ID and Secret")
        );
    }

    #[test]
    fn a_hash_is_no_key() {
        let hash = format!("sha256:{}", "ab".repeat(32));
        let keys = AccessKeys::read([hash.as_str()]).unwrap();
        for scheme in ["Key", "Bearer"] {
            let header = HeaderValue::from_str(&format!("{scheme} {hash}")).unwrap();
            assert_eq!(keys.check(Some(&header)), Err(KeyRefusal::Unknown), "whoever reads the file cannot call");
        }
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused_without_showing_it() {
        assert_eq!(AccessKeys::read(["# only a comment\n"]).unwrap_err(), KeyFault::None);
        assert_eq!(AccessKeys::read(["\na short"]).unwrap_err(), KeyFault::Short { line: 2 });
        assert_eq!(AccessKeys::read(["a b c"]).unwrap_err(), KeyFault::Line { line: 1 });
        assert!(!format!("{:?}", keys()).contains("secret"));
    }
}
