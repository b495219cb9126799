//! Globs over endpoint ids, for allow lists and the route table.

use std::fmt;
use std::hash::{Hash, Hasher};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::EndpointId;

/// A glob over endpoint ids: `fal-ai/flux/dev`, `fal-ai/*`, `fal-ai/**`. `*` stays within a segment, `**` does not.
///
/// `fal-ai/flux` means the app itself and not what is below it; write `fal-ai/flux/**` as well to allow that.
/// The owner number `110602490` is read as `fal-ai`, as in an [`EndpointId`].
#[derive(Clone)]
pub struct EndpointPattern {
    text: String,
    whole: Glob,
    app: Glob,
    alias: Glob,
}

/// One glob. Those that people write need no automaton.
#[derive(Clone)]
enum Glob {
    /// Just this.
    Literal(Box<str>),
    /// `**`
    Everything,
    /// `a/**`: what begins with this.
    Below(Box<str>),
    /// `*`, `a/*` or `a/b-*`: what begins with this and has no slash after it.
    Within(Box<str>),
    Matcher(Box<GlobMatcher>),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{pattern}` is no endpoint pattern: {why}")]
pub struct PatternError {
    pattern: String,
    why: String,
}

impl EndpointPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`] for a broken glob, and for one that could never name an app.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let error = |why: &str| PatternError { pattern: pattern.to_owned(), why: why.to_owned() };
        let canonical = EndpointId::parse(pattern).map_or_else(|| pattern.to_owned(), |id| id.as_str().to_owned());
        let segments: Vec<&str> = canonical.split('/').collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err(error("it has an empty segment"));
        }
        let app_segments = if matches!(segments[0], "workflows" | "comfy") { 3 } else { 2 };
        if segments.len() < app_segments && !segments.contains(&"**") {
            return Err(error("write owner/alias, owner/* or **"));
        }
        let open = segments.iter().position(|segment| *segment == "**").is_some_and(|at| at < app_segments);
        let app = if open { open_prefix(&segments) } else { segments[..app_segments].join("/") };
        let alias = if open { "*" } else { segments[app_segments - 1] };
        Ok(Self {
            whole: Glob::new(&canonical).map_err(|why| error(&why))?,
            app: Glob::new(&app).map_err(|why| error(&why))?,
            alias: Glob::new(alias).map_err(|why| error(&why))?,
            text: pattern.to_owned(),
        })
    }

    /// Whether the endpoint is meant.
    #[must_use]
    pub fn matches(&self, endpoint: &EndpointId) -> bool {
        self.whole.is_match(endpoint.as_str())
    }

    /// Whether the endpoint's app is meant, with or without some path below it.
    #[must_use]
    pub fn matches_app(&self, endpoint: &EndpointId) -> bool {
        self.app.is_match(endpoint.app())
    }

    /// Whether an app with this alias could be meant, whoever owns it.
    #[must_use]
    pub fn matches_alias(&self, alias: &str) -> bool {
        self.alias.is_match(alias)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// `fal-ai/**` names every app of fal-ai, `**` every app.
fn open_prefix(segments: &[&str]) -> String {
    let before: Vec<&str> = segments.iter().take_while(|segment| **segment != "**").copied().collect();
    if before.is_empty() { "**".to_owned() } else { format!("{}/**", before.join("/")) }
}

impl Glob {
    fn new(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        if text == "**" {
            return Ok(Self::Everything);
        }
        let is_plain = |text: &str| text.bytes().all(is_plain);
        match text.strip_suffix("**") {
            Some(before) if before.ends_with('/') && is_plain(before) => return Ok(Self::Below(before.into())),
            _ if is_plain(text) => return Ok(Self::Literal(text.into())),
            _ => {}
        }
        match text.strip_suffix('*') {
            Some(before) if is_plain(before) => return Ok(Self::Within(before.into())),
            _ => {}
        }
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(false).build();
        glob.map(|glob| Self::Matcher(Box::new(glob.compile_matcher()))).map_err(|cause| cause.kind().to_string())
    }

    fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Everything => true,
            Self::Below(before) => text.strip_prefix(&**before).is_some_and(|rest| !rest.is_empty()),
            Self::Within(before) => text.strip_prefix(&**before).is_some_and(|rest| !rest.contains('/')),
            Self::Matcher(matcher) => matcher.is_match(text),
        }
    }
}

/// As it was written.
impl fmt::Debug for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointPattern({:?})", self.text)
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for EndpointPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for EndpointPattern {}

impl Hash for EndpointPattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Serialize for EndpointPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for EndpointPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for EndpointPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EndpointPattern".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A glob over endpoint ids: `fal-ai/flux/dev`, `fal-ai/*`, `fal-ai/**`."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, endpoint: &str) -> (bool, bool) {
        let pattern = EndpointPattern::parse(pattern).unwrap();
        let endpoint = EndpointId::parse(endpoint).unwrap();
        (pattern.matches(&endpoint), pattern.matches_app(&endpoint))
    }

    #[test]
    fn a_star_stays_within_a_segment() {
        assert_eq!(matches("fal-ai/*", "fal-ai/flux"), (true, true));
        assert_eq!(matches("fal-ai/*", "fal-ai/flux/dev"), (false, true));
        assert_eq!(matches("fal-ai/**", "fal-ai/flux/dev"), (true, true));
        assert_eq!(matches("**", "me/mine/deep/down"), (true, true));
        assert_eq!(matches("fal-ai/flux/dev", "fal-ai/flux"), (false, true));
        assert_eq!(matches("fal-ai/flux/dev", "fal-ai/fluxx"), (false, false));
        assert_eq!(matches("110602490-lcm-sd15-i2i", "fal-ai/lcm-sd15-i2i"), (true, true));
        assert_eq!(matches("workflows/me/*", "workflows/me/flow"), (true, true));
        assert_eq!(matches("fal-ai/**", "workflows/fal-ai/flux"), (false, false));
    }

    #[test]
    fn short_cuts_say_what_the_automaton_says() {
        let texts =
            ["fal-ai/flux", "fal-ai/fluxx", "fal-ai/flux/dev", "fal-ai/flux/dev/deep", "a/flux", "flux", "fal-ai"];
        for glob in
            ["fal-ai/flux", "fal-ai/flux/**", "fal-ai/flux/*", "fal-ai/*", "fal-ai/f*", "fal-ai/**", "**", "*", "flux"]
        {
            let short = Glob::new(glob).unwrap();
            let whole = GlobBuilder::new(glob).literal_separator(true).backslash_escape(false).build().unwrap();
            for text in texts {
                assert_eq!(short.is_match(text), whole.compile_matcher().is_match(text), "{glob} on {text}");
            }
        }
        assert!(matches!(Glob::new("fal-ai/flux/**"), Ok(Glob::Below(_))));
        assert!(matches!(Glob::new("fal-ai/*"), Ok(Glob::Within(_))));
        assert!(matches!(Glob::new("fal-ai/f*"), Ok(Glob::Within(_))));
        assert!(matches!(Glob::new("fal-ai/*x"), Ok(Glob::Matcher(_))));
    }

    #[test]
    fn what_names_no_app_is_no_pattern() {
        for pattern in ["", "flux", "a//b", "workflows/me", "fal-ai/["] {
            assert!(EndpointPattern::parse(pattern).is_err(), "{pattern}");
        }
    }
}
