//! Where each of fal's host classes is reached. The dialled host only ever comes from here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::{HostClass, TargetUrl};

/// A base address, `https://fal.run` or `http://127.0.0.1:9000`: scheme and authority, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    authority: Authority,
}

/// Why a text is no base address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no base address: {why}")]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl Address {
    /// Whether it is reached without TLS.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.scheme == Scheme::HTTP
    }

    /// Whether the host is an address of this machine, written as a number or as `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.authority.host();
        let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        number.is_ok_and(|address| address.is_loopback()) || host == "localhost"
    }

    /// Its URL without a path.
    pub(super) fn root(&self) -> Uri {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        Uri::from_parts(parts).expect("scheme, authority and path make a URI")
    }

    /// What `Host` says to it: the port only where it is not the scheme's own.
    pub(super) fn host_header(&self) -> HeaderValue {
        let default = if self.is_plain() { 80 } else { 443 };
        let text = match self.authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", self.authority.host()),
            _ => self.authority.host().to_owned(),
        };
        HeaderValue::try_from(text).expect("an authority holds only visible ASCII characters")
    }

    fn url(&self, target: &TargetUrl) -> Uri {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(target.path_and_query().clone());
        Uri::from_parts(parts).expect("scheme, authority and path make a URI")
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |why| AddressError { text: text.to_owned(), why };
        let parts = text.parse::<Uri>().map_err(|_| error("it is no URL"))?.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let scheme = scheme.ok_or_else(|| error("write https://host or http://127.0.0.1:port"))?;
        let authority = parts.authority.ok_or_else(|| error("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(error("it holds user info"));
        }
        if authority.host().is_empty() {
            return Err(error("it names no host"));
        }
        if parts.path_and_query.is_some_and(|path| path != "/") {
            return Err(error("it may not hold a path"));
        }
        Ok(Self { scheme, authority })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "server")]
impl schemars::JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A base address without a path: `https://fal.run`."
        })
    }
}

/// The base address of each host class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Addresses {
    /// Runs, streams and sockets.
    pub run: Address,
    /// The queue.
    pub queue: Address,
    /// Tokens and storage.
    pub rest: Address,
}

impl Default for Addresses {
    fn default() -> Self {
        let fal =
            |class: HostClass| Address { scheme: Scheme::HTTPS, authority: Authority::from_static(class.fal_host()) };
        Self { run: fal(HostClass::Run), queue: fal(HostClass::Queue), rest: fal(HostClass::Rest) }
    }
}

impl Addresses {
    /// The address of a class.
    #[must_use]
    pub const fn of(&self, class: HostClass) -> &Address {
        match class {
            HostClass::Run => &self.run,
            HostClass::Queue => &self.queue,
            HostClass::Rest => &self.rest,
        }
    }

    /// The URL that is dialled for a target: the class's address and the target's own path.
    #[must_use]
    pub fn url(&self, target: &TargetUrl) -> Uri {
        self.of(target.class()).url(target)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{AllowedTargets, EndpointPattern, TargetSettings};

    fn open_gate() -> AllowedTargets {
        let endpoints = vec![EndpointPattern::parse("**").unwrap()];
        AllowedTargets::new(TargetSettings { endpoints, tokens: true, storage: true, webhooks: true })
    }

    #[test]
    fn only_a_scheme_and_a_host_are_an_address() {
        for text in ["https://fal.run", "http://127.0.0.1:9000", "http://[::1]:9000", "https://fal.run/"] {
            assert!(text.parse::<Address>().is_ok(), "{text}");
        }
        for text in
            ["", "fal.run", "ftp://fal.run", "https://a:b@fal.run", "https://fal.run/x", "https://fal.run?a", "/"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_numbers_of_this_machine_and_localhost_are_loopback() {
        let loopback = |text: &str| text.parse::<Address>().unwrap().is_loopback();
        assert!(loopback("http://127.0.0.1:1") && loopback("http://[::1]:1") && loopback("http://localhost:1"));
        assert!(!loopback("http://10.0.0.1") && !loopback("http://127.0.0.1.evil.test") && !loopback("http://0.0.0.0"));
    }

    proptest! {
        #[test]
        fn no_text_of_a_caller_becomes_a_host(
            scheme in "(https|http|HTTPS|ftp|)",
            before in "([a-z:@\\\\/]{0,8}|user:pass@)",
            host in "(fal\\.run|queue\\.fal\\.run|rest\\.fal\\.ai|1-a\\.gateway\\.alpha\\.fal\\.ai|evil\\.test|127\\.0\\.0\\.1)",
            after in "(|\\.evil\\.test|@evil\\.test|:443|:8080|\\.|#|%00|\\\\@evil\\.test)",
            path in "(/[a-z%2ef@.:;/?=&\\\\]{0,24}|/fal-ai/flux|/a/b/requests/c/status)",
        ) {
            let table = Addresses::default();
            let text = format!("{scheme}://{before}{host}{after}{path}");
            let header = HeaderValue::from_str(&text).unwrap();
            for method in [Method::GET, Method::POST, Method::PUT] {
                if let Ok(target) = open_gate().admit(Some(&header), &method) {
                    let url = table.url(&target);
                    let own = [&table.run, &table.queue, &table.rest].map(|address| address.authority.as_str());
                    prop_assert!(own.contains(&url.authority().unwrap().as_str()), "{text} -> {url}");
                    prop_assert_eq!(url.scheme_str(), Some("https"));
                    prop_assert!(!url.path().contains("..") && !url.path().contains('%'), "{} -> {}", text, url);
                }
            }
        }

        #[test]
        fn what_was_compared_is_what_is_sent(path in "(/[a-zA-Z0-9%2E2f._~@+:-]{0,6}){1,6}/?") {
            let gate = open_gate();
            let header = HeaderValue::from_str(&format!("https://fal.run{path}")).unwrap();
            if let Ok(target) = gate.admit(Some(&header), &Method::POST) {
                let sent = HeaderValue::from_str(&format!("https://fal.run{}", target.path_and_query())).unwrap();
                let again = gate.admit(Some(&sent), &Method::POST).unwrap();
                prop_assert_eq!(again.call(), target.call());
                prop_assert_eq!(again.path_and_query(), target.path_and_query());
            }
        }
    }
}
