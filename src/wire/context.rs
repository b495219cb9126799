//! Facts about one request that the gate learns once and every room may read from the request's extensions.

use http::HeaderValue;

/// The id of a request: a UUID v4, on every answer as `x-fal-request-id` and in every log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Takes an id; `None` unless it is 1 to 100 letters, digits, `-` or `_`.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        let fits = (1..=100).contains(&id.len());
        (plain && fits).then(|| HeaderValue::from_str(id).ok().map(Self)).flatten()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("only plain characters are taken")
    }

    /// The id as a header value.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// The origin at which the client reached the gate, without a slash at the end: `https://draw.example:8443`.
///
/// URLs that the gate hands out start with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicOrigin(pub String);
