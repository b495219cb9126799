//! Where the gate listens and how it is reached.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU64, NonZeroUsize};

use http::Uri;
use serde::{Deserialize, Serialize};

use super::accept::{DrainSettings, LimitSettings, ProxyProtocol, TlsSettings};
use super::sockets::SocketSettings;

/// The gate's own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GateSettings {
    /// Address and port to listen on. Port 0 takes a free one; the log says which.
    pub listen: SocketAddr,
    /// Origin at which clients reach the gate, for the URLs that it hands out: `https://draw.example`. Without it, the
    /// scheme of the listener and the `Host` of each request are used.
    pub public_url: Option<String>,
    /// Threads that serve connections; without it one a core.
    pub workers: Option<NonZeroUsize>,
    /// Address of the admin listener: `/metrics`, `/healthz`, `/readyz`. Keep it private. Without it there is none.
    pub admin: Option<SocketAddr>,
    /// Who keeps uploads: `auto` is this gate where it has an engine and the upstream otherwise, `gate` needs an engine,
    /// `upstream` needs `proxy.targets.storage`. Results of the engine are always kept here.
    pub uploads: Uploads,
    /// Memory that request bodies may fill together while they are held: checked by a policy of the proxy, looked at by the
    /// engine before they may spill, or kept for another key. More are refused with 429. In bytes.
    pub bodies_bytes: NonZeroU64,
    /// TLS with this certificate. Without it the gate speaks plain HTTP, for this machine or behind something that ends
    /// TLS.
    pub tls: Option<TlsSettings>,
    /// Whether what is in front says for whom it opens each connection: `required` takes connections of
    /// `guard.address.trusted_proxies` alone, each with a header of the PROXY protocol, version 1 or 2, before TLS. The
    /// admin listener takes none.
    pub proxy_protocol: ProxyProtocol,
    /// Limits on connections, request heads and slowness.
    pub limits: LimitSettings,
    /// How the gate ends.
    pub drain: DrainSettings,
    /// Sockets, whoever answers them.
    pub sockets: SocketSettings,
}

/// Who keeps uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Uploads {
    /// The gate when the engine is enabled, else the upstream.
    #[default]
    Auto,
    /// The gate; needs an engine.
    Gate,
    /// The upstream; needs `proxy.targets.storage`.
    Upstream,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8787)),
            public_url: None,
            workers: None,
            admin: None,
            uploads: Uploads::Auto,
            bodies_bytes: NonZeroU64::new(256 * 1024 * 1024).expect("a literal that is not zero"),
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            limits: LimitSettings::default(),
            drain: DrainSettings::default(),
            sockets: SocketSettings::default(),
        }
    }
}

impl GateSettings {
    /// What is wrong with these settings: the key inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let limits = self.limits.faults().into_iter().map(|(key, what)| (format!("limits.{key}"), what));
        let mut faults: Vec<(String, String)> = limits.collect();
        if let Some(url) = &self.public_url
            && !is_origin(url)
        {
            faults.push(("public_url".to_owned(), format!("`{url}` is no origin such as https://draw.example")));
        }
        if self.admin.is_some_and(|admin| admin == self.listen && admin.port() != 0) {
            faults.push(("admin".to_owned(), format!("is {}, which is the public address too", self.listen)));
        }
        faults
    }
}

/// `http(s)://host[:port]` and nothing after it.
fn is_origin(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|a| !a.as_str().contains('@'));
    plain && uri.path() == "/" && uri.query().is_none() && !url.ends_with('/') && !url.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_url_is_an_origin_and_no_more() {
        for (url, fine) in [
            ("https://draw.example", true),
            ("http://localhost:3000", true),
            ("https://draw.example/", false),
            ("https://draw.example/app", false),
            ("draw.example", false),
            ("ftp://draw.example", false),
            ("https://a@draw.example", false),
        ] {
            let settings = GateSettings { public_url: Some(url.to_owned()), ..GateSettings::default() };
            assert_eq!(settings.faults().is_empty(), fine, "{url}");
        }
    }
}
