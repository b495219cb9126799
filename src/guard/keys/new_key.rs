//! A new access key, and what of it is kept.

use secrecy::{ExposeSecret, SecretString};

use super::line::{AccessKey, HASHED, KeyFault, digest};

/// Random bytes of the secret half: as many as the hash has.
const SECRET_BYTES: usize = 32;

/// A key that was made just now: shown once, and kept as a line with its hash.
#[derive(Debug)]
pub struct NewKey {
    /// The key, in the form that fal's clients send.
    pub key: SecretString,
    /// Its line for a list of access keys.
    pub line: String,
}

impl NewKey {
    /// Makes a key for the caller of this name, in this tier.
    ///
    /// # Errors
    /// [`KeyFault`] for a name or a tier that a list cannot hold.
    pub fn make(name: Option<&str>, tier: Option<&str>) -> Result<Self, KeyFault> {
        let (id, secret): ([u8; 8], [u8; SECRET_BYTES]) = (rand::random(), rand::random());
        let key = SecretString::from(format!("{}:{}", hex(&id), hex(&secret)));
        let mut words: Vec<String> = name.map(str::to_owned).into_iter().collect();
        words.push(format!("{HASHED}{}", hex(&digest(key.expose_secret().as_bytes()))));
        words.extend(tier.map(|tier| format!("tier={tier}")));
        let line = words.join(" ");
        // A name with a space in it, and the like.
        let read = AccessKey::read(&line, (1, 1))?.ok_or(KeyFault::Line { line: 1 })?;
        if name.is_some_and(|name| *read.caller.name != *name) || read.tier.as_deref() != tier {
            return Err(KeyFault::Line { line: 1 });
        }
        Ok(Self { key, line })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::AccessKeys;

    #[test]
    fn a_new_key_opens_by_its_line_and_the_line_does_not_tell_it() {
        let new = NewKey::make(Some("ann"), Some("pro")).unwrap();
        let keys = AccessKeys::read([new.line.as_str()]).unwrap();
        let header = http::HeaderValue::from_str(&format!("Key {}", new.key.expose_secret())).unwrap();
        let holder = keys.check(Some(&header)).unwrap();
        assert_eq!((&*holder.caller.name, holder.tier.as_deref()), ("ann", Some("pro")));
        let secret = new.key.expose_secret().split(':').nth(1).unwrap();
        assert!(!new.line.contains(secret) && !format!("{new:?}").contains(secret));
        assert_ne!(NewKey::make(None, None).unwrap().line, NewKey::make(None, None).unwrap().line);
    }

    #[test]
    fn a_name_that_a_line_cannot_hold_is_refused() {
        for name in ["", "a b", "#a", "visitor-1", "a\nb"] {
            assert!(NewKey::make(Some(name), None).is_err(), "{name:?}");
        }
        for tier in ["", "a b", "a\nb"] {
            assert!(NewKey::make(None, Some(tier)).is_err(), "{tier:?}");
        }
    }
}
