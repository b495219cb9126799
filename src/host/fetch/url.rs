//! URLs that may be fetched, and how they are shown.

use std::net::IpAddr;

use url::{Host, Url};

use super::FetchError;

/// Longest part of a URL that is shown in an error, in characters.
const SHOWN: usize = 120;

/// An http(s) URL without credentials, on a port that may be dialled.
///
/// It is parsed once, as browsers parse it: `http://0x7f.1/` is 127.0.0.1 here, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchUrl(Url);

impl FetchUrl {
    /// Takes a URL as a caller wrote it.
    ///
    /// # Errors
    /// [`FetchError::Url`] for anything that may not be fetched, whatever its address.
    pub fn parse(text: &str, ports: &[u16]) -> Result<Self, FetchError> {
        Self::admit(Url::parse(text.trim()).map_err(|_| FetchError::Url("it is no URL"))?, ports)
    }

    /// Takes the target of a redirect, read against this URL.
    ///
    /// # Errors
    /// As [`FetchUrl::parse`].
    pub fn join(&self, location: &str, ports: &[u16]) -> Result<Self, FetchError> {
        Self::admit(self.0.join(location).map_err(|_| FetchError::Url("it redirects to no URL"))?, ports)
    }

    fn admit(mut url: Url, ports: &[u16]) -> Result<Self, FetchError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(FetchError::Url("it is no http(s) URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Url("it holds credentials"));
        }
        if url.host().is_none() {
            return Err(FetchError::Url("it names no host"));
        }
        if !url.port_or_known_default().is_some_and(|port| ports.contains(&port)) {
            return Err(FetchError::Url("its port is not allowed"));
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Whether the connection must be TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The port to dial.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().expect("admitted with a port")
    }

    /// The host as a literal address, where it is one.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(v4) => Some(v4.into()),
            Host::Ipv6(v6) => Some(v6.into()),
            Host::Domain(_) => None,
        }
    }

    /// The host without the brackets of an IPv6 address.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().expect("admitted with a host").trim_start_matches('[').trim_end_matches(']')
    }

    /// The value of the `host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.0.host_str().expect("admitted with a host");
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Path and query, as they are sent.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match self.0.query() {
            Some(query) => format!("{}?{query}", self.0.path()),
            None => self.0.path().to_owned(),
        }
    }
}

/// A caller's `image_url` as errors name it: no query, no credentials, no picture, never long.
#[must_use]
pub fn shown(text: &str) -> String {
    let text = text.trim();
    if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:")) {
        let head = text.split(',').next().unwrap_or(text);
        return format!("{},...", head.chars().filter(|c| !c.is_control()).take(60).collect::<String>());
    }
    let Ok(mut url) = Url::parse(text) else { return cut(text.split(['?', '#']).next().unwrap_or(text), 40) };
    // Neither can fail for a URL that has a host; one without a host has no credentials either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    cut(url.as_str(), SHOWN)
}

fn cut(text: &str, limit: usize) -> String {
    let mut start: String = text.chars().filter(|c| !c.is_control()).take(limit).collect();
    if text.chars().count() > limit {
        start.push_str("...");
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_no_query_no_credentials_and_no_picture() {
        assert_eq!(shown("https://user:secret@cdn.example/a.png?sig=secret#x"), "https://cdn.example/a.png");
        assert_eq!(shown("data:image/png;base64,iVBORw0KGgo"), "data:image/png;base64,...");
        assert_eq!(shown("not a url?token=1"), "not a url");
        assert!(shown(&format!("https://a.example/{}", "x".repeat(1000))).chars().count() < 130);
    }

    #[test]
    fn odd_urls_are_not_fetched() {
        for odd in [
            "ftp://a.example/x",
            "file:///etc/passwd",
            "gopher://a.example/",
            "http://",
            "https://u@a.example/",
            "https://u:p@a.example/",
            "http://a.example:22/",
            "http://a.example:8080/",
            "a.example/x.png",
            "//a.example/x.png",
            "http://a b/",
            "",
        ] {
            assert!(FetchUrl::parse(odd, &[80, 443]).is_err(), "{odd}");
        }
    }

    #[test]
    fn odd_spellings_of_an_address_are_that_address() {
        for odd in [
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://①②⑦.0.0.1/",
        ] {
            assert_eq!(FetchUrl::parse(odd, &[80]).unwrap().literal(), Some("127.0.0.1".parse().unwrap()), "{odd}");
        }
    }
}
