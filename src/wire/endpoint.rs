//! App ids: `110602490-lcm-sd15-i2i`, `fal-ai/lcm-sd15-i2i`, `workflows/owner/alias/path` (protocol spec 1.3).

use std::fmt;

/// The account that published the first LCM apps, as a number in old ids and as a name in new ones.
const FAL_OWNER_NUMBER: &str = "110602490";
const FAL_OWNER_NAME: &str = "fal-ai";
const NAMESPACES: [&str; 2] = ["workflows", "comfy"];

/// An app and the path below it, in one spelling.
///
/// Every client spelling of an app becomes the same value: the dash form is split, and the owner number `110602490`
/// becomes `fal-ai`. Segments hold only letters, digits, `.`, `_`, `~`, `@`, `+`, `:` and `-`, and are never dots alone, so
/// that what is compared is what is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointId {
    text: String,
    app_len: usize,
    alias: (usize, usize),
}

impl EndpointId {
    /// Takes an app id as an operator or a client writes it, for example `fal-ai/fast-lcm-diffusion/image-to-image`.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let segments: Vec<&str> = id.split('/').collect();
        Self::from_segments(&segments)
    }

    /// Takes an app and the path below it from path segments.
    pub(super) fn from_segments(segments: &[&str]) -> Option<Self> {
        if !segments.iter().all(|segment| is_plain_segment(segment)) {
            return None;
        }
        let (namespace, owner, alias, path) = match segments {
            [namespace, owner, alias, path @ ..] if NAMESPACES.contains(namespace) => {
                (Some(*namespace), *owner, *alias, path)
            }
            [first, ..] if NAMESPACES.contains(first) => return None,
            [dashed, path @ ..] if split_dash_form(dashed).is_some() => {
                let (owner, alias) = split_dash_form(dashed)?;
                (None, owner, alias, path)
            }
            [owner, alias, path @ ..] => (None, *owner, *alias, path),
            _ => return None,
        };
        let owner = if owner == FAL_OWNER_NUMBER { FAL_OWNER_NAME } else { owner };
        let mut text = String::with_capacity(48);
        if let Some(namespace) = namespace {
            text.push_str(namespace);
            text.push('/');
        }
        text.push_str(owner);
        text.push('/');
        let alias_start = text.len();
        text.push_str(alias);
        let app_len = text.len();
        for segment in path {
            text.push('/');
            text.push_str(segment);
        }
        Some(Self { text, app_len, alias: (alias_start, app_len) })
    }

    /// The whole id: `fal-ai/fast-lcm-diffusion/image-to-image`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The app without its path: `fal-ai/fast-lcm-diffusion`. Status, result and cancel URLs name only this.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.text[..self.app_len]
    }

    /// The alias: `fast-lcm-diffusion`. Tokens name only this.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.text[self.alias.0..self.alias.1]
    }

    /// The path below the app, without a slash in front; empty at the app itself.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text[self.app_len..].trim_start_matches('/')
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Splits `110602490-lcm-sd15-i2i` at the first dash after the digits.
pub(super) fn split_dash_form(segment: &str) -> Option<(&str, &str)> {
    let (owner, alias) = segment.split_once('-')?;
    let digits = !owner.is_empty() && owner.bytes().all(|byte| byte.is_ascii_digit());
    let plain = !alias.is_empty() && alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (digits && plain).then_some((owner, alias))
}

fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment.len() <= 200
        && segment.bytes().any(|byte| byte != b'.')
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~@+:-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_app_is_one_app() {
        for id in ["110602490-lcm-sd15-i2i", "110602490/lcm-sd15-i2i", "fal-ai/lcm-sd15-i2i"] {
            let endpoint = EndpointId::parse(id).unwrap();
            assert_eq!(endpoint.as_str(), "fal-ai/lcm-sd15-i2i");
            assert_eq!(endpoint.alias(), "lcm-sd15-i2i");
            assert_eq!(endpoint.path(), "");
        }
    }

    #[test]
    fn a_path_and_a_namespace_are_kept_apart() {
        let endpoint = EndpointId::parse("workflows/me/flow/a/b").unwrap();
        assert_eq!((endpoint.app(), endpoint.alias(), endpoint.path()), ("workflows/me/flow", "flow", "a/b"));
    }

    #[test]
    fn odd_ids_are_no_ids() {
        for id in ["", "lcm", "a//b", "../b", "a/..", "workflows/a", "a/b%2fc", "a/b c", "a/b;c", "-/"] {
            assert_eq!(EndpointId::parse(id), None, "{id}");
        }
    }
}
