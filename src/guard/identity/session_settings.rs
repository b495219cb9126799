//! `[guard.session]`: sessions of the application's own.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

use super::inquire::is_private_url;

/// Sessions of the application's own: its cookie is shown to a URL of the application, which says whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Where the application says whose session it is: a GET with nothing but the cookies, answered 2xx with the caller's
    /// name in a header, or 401 or 403. Any other answer refuses the call with 503.
    pub url: String,
    /// Names of the cookies that are a session. A request without any of them has no session.
    pub cookies: Vec<String>,
    /// Header of the answer that names the caller.
    #[serde(default = "caller_header")]
    pub caller_header: String,
    /// Header of the answer that names the caller's tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier_header: Option<String>,
    /// How long an answer is waited for, in milliseconds.
    #[serde(default = "timeout")]
    pub timeout_ms: NonZeroU64,
    /// How long a good answer is remembered, in seconds; a logout takes effect so much later. 0 asks every time. Refusals
    /// are not remembered.
    #[serde(default = "cache_s")]
    pub cache_s: u32,
    /// Sessions that are remembered.
    #[serde(default = "cache_entries")]
    pub cache_entries: NonZeroU32,
    /// Questions that may be open at once. More wait, at most for `timeout_ms`.
    #[serde(default = "at_once")]
    pub at_once: NonZeroU32,
    /// Let `url` be plain http on another machine: for an application in the same private network.
    #[serde(default)]
    pub allow_plain_http: bool,
}

fn caller_header() -> String {
    "x-auth-caller".to_owned()
}

const fn timeout() -> NonZeroU64 {
    NonZeroU64::new(2000).expect("not zero")
}

const fn cache_s() -> u32 {
    5
}

const fn cache_entries() -> NonZeroU32 {
    NonZeroU32::new(10_000).expect("not zero")
}

const fn at_once() -> NonZeroU32 {
    NonZeroU32::new(64).expect("not zero")
}

impl SessionSettings {
    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: &str| faults.push((key.to_owned(), why.to_owned()));
        let uri = self.url.parse::<http::Uri>().ok();
        let is_http = uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        let fits = is_private_url(&self.url) || self.allow_plain_http && is_http;
        if !fits {
            fault("url", "is no https URL; plain http is for this machine, or needs allow_plain_http");
        }
        let is_token = |name: &String| http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        if self.cookies.is_empty() {
            fault("cookies", "names none, so nobody would have a session");
        } else if !self.cookies.iter().all(is_token) {
            fault("cookies", "holds what is no name of a cookie");
        }
        if !is_token(&self.caller_header) {
            fault("caller_header", "is no name of a header");
        }
        if self.tier_header.as_ref().is_some_and(|name| !is_token(name)) {
            fault("tier_header", "is no name of a header");
        }
        if self.cache_s > 300 {
            fault("cache_s", "is more than five minutes: whoever logged out could call on");
        }
        faults
    }
}
