//! The fal key, and the one function that exposes it.

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::echo::repeats;
use crate::wire::TargetUrl;

/// A fal key, `id:secret` as one text. It cannot be printed, compared or serialised.
///
/// It is kept as the value that goes onto requests, so that a request costs no copy of it. Like the copies that every
/// request on its way holds, that one is not wiped from memory when it goes; the process forbids core dumps instead.
#[derive(Debug, Clone)]
pub struct FalKey {
    text: SecretString,
    /// `Key id:secret`, marked sensitive: it shows in no debug text.
    value: HeaderValue,
}

/// Why a text is no key. It never holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// Nothing but white space.
    #[error("it is empty")]
    Empty,
    /// A character that no header may carry.
    #[error("it holds a character that is not visible ASCII")]
    Character,
    /// More than a key ever has.
    #[error("it is longer than 1024 bytes")]
    TooLong,
}

impl FalKey {
    /// Takes a key; white space around it goes, as files end in a line break.
    ///
    /// # Errors
    /// [`KeyFault`] unless the rest is 1 to 1024 visible ASCII characters.
    pub fn new(text: String) -> Result<Self, KeyFault> {
        let whole = SecretString::from(text);
        let key = whole.expose_secret().trim();
        if key.is_empty() {
            return Err(KeyFault::Empty);
        }
        if key.len() > 1024 {
            return Err(KeyFault::TooLong);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyFault::Character);
        }
        let mut value = HeaderValue::try_from(format!("Key {key}")).expect("a key holds only visible ASCII characters");
        value.set_sensitive(true);
        Ok(Self { text: SecretString::from(key), value })
    }

    /// Whether both are the same key. Only for lists of one's own keys: it takes time that depends on them.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.text.expose_secret() == other.text.expose_secret()
    }

    /// Whether a text from outside repeats the key, its secret half, or a part of them.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let key = self.text.expose_secret();
        repeats(text, key) || key.split_once(':').is_some_and(|(_, secret)| repeats(text, secret))
    }
}

/// Puts the key onto a request to an admitted target, in place of any other `authorization`.
///
/// It is the only place where a key leaves its type. The header is marked sensitive: it is not printed, and not indexed by
/// HTTP/2's header compression.
pub fn attach_key(_to: &TargetUrl, key: &FalKey, headers: &mut HeaderMap) {
    headers.insert(AUTHORIZATION, key.value.clone());
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::wire::{AllowedTargets, EndpointPattern, TargetSettings};

    #[test]
    fn a_key_is_visible_ascii() {
        for bad in ["", "  \n", "a b", "a\nb", "clé", "a\0", &"x".repeat(1025)] {
            assert!(FalKey::new(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(FalKey::new("id:secret\n".to_owned()).is_ok());
    }

    #[test]
    fn a_key_is_found_in_a_text_that_repeats_it_or_its_secret() {
        let key = FalKey::new("canary-id:hush".to_owned()).unwrap();
        assert!(key.is_in("no user for Key canary-id:hush") && key.is_in("bad secret hush"));
        assert!(!key.is_in("no user found") && !key.is_in("canary"));
    }

    #[test]
    fn a_key_shows_in_no_debug_text_and_on_one_header() {
        let key = FalKey::new("canary-id:canary-secret".to_owned()).unwrap();
        assert!(!format!("{key:?}").contains("canary"));
        let endpoints = vec![EndpointPattern::parse("**").unwrap()];
        let gate = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() });
        let target = gate.admit(Some(&HeaderValue::from_static("https://fal.run/fal-ai/flux")), &Method::POST).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer mine"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer other"));
        attach_key(&target, &key, &mut headers);
        let sent: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(sent, ["Key canary-id:canary-secret"]);
        assert!(sent[0].is_sensitive());
        assert!(!format!("{headers:?}").contains("canary"));
    }
}
