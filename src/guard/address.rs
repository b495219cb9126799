//! Where a request comes from: the other end of the connection, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{FORWARDED, HeaderMap, HeaderName};
use http::{HeaderValue, Request};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of the connection. Set by the gate on every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// The address of the caller, IPv4 inside IPv6 written as IPv4. Set by [`ClientAddrLayer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(pub IpAddr);

/// Whom to believe about where a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AddressSettings {
    /// Networks of the proxies in front of the gate, for example `10.0.0.0/8`. Only what they write about a caller's
    /// address is believed, counted from the right. They are also exempt from the limit on connections per address.
    #[cfg_attr(feature = "server", schemars(with = "Vec<String>"))]
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which these proxies name the caller. The other one is never read: callers could write it.
    pub header: AddressHeader,
}

/// A header in which a proxy names the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AddressHeader {
    /// `X-Forwarded-For`, which nearly all proxies write.
    #[default]
    XForwardedFor,
    /// `Forwarded` of RFC 7239.
    Forwarded,
}

impl AddressSettings {
    /// Whether a proxy at this address is believed.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// The caller's address: the peer's, unless the peer is a trusted proxy; then the right-most address in the header
    /// that is no trusted proxy. What is no address ends the walk at the hop that wrote it.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        let name = match self.header {
            AddressHeader::XForwardedFor => X_FORWARDED_FOR,
            AddressHeader::Forwarded => FORWARDED,
        };
        let lines: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
        for line in lines.into_iter().rev() {
            for hop in line.as_bytes().rsplit(|byte| *byte == b',') {
                let hop = match self.header {
                    AddressHeader::XForwardedFor => std::str::from_utf8(hop).ok(),
                    AddressHeader::Forwarded => std::str::from_utf8(hop).ok().and_then(forwarded_for),
                };
                let Some(address) = hop.and_then(read_address) else { return client };
                client = address;
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` and `[2001:db8::1]:80`.
fn read_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    address.or_else(bracketed).map(|address| address.to_canonical())
}

/// The `for` parameter of one element of `Forwarded`. A comma inside a quoted value has split the element already, and
/// then this finds no whole address, which ends the walk.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim_matches([' ', '\t']).split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            if found.is_some() {
                return None;
            }
            let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            found = Some(unquoted.unwrap_or(value));
        }
    }
    found
}

/// Whether a header speaks about where a request came from, and is a proxy's to write.
fn is_forwarding(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip")
}

/// Finds out the caller's address, and drops what an untrusted peer says about where its request came from.
///
/// Needs [`PeerAddr`], adds [`ClientAddr`]; without a peer it adds nothing.
///
/// ```
/// use falgate::guard::{AddressSettings, ClientAddr, ClientAddrLayer, PeerAddr};
/// use tower::{ServiceBuilder, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let settings = AddressSettings { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() };
/// let service = ServiceBuilder::new().layer(ClientAddrLayer::new(settings)).service(service_fn(
///     |request: http::Request<()>| async move { Ok::<_, ()>(*request.extensions().get::<ClientAddr>().unwrap()) },
/// ));
/// let mut request = http::Request::builder().header("x-forwarded-for", "6.6.6.6, 192.0.2.7").body(()).unwrap();
/// request.extensions_mut().insert(PeerAddr("10.1.2.3:4567".parse().unwrap()));
/// assert_eq!(service.oneshot(request).await.unwrap().0.to_string(), "192.0.2.7");
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct ClientAddrLayer(Arc<AddressSettings>);

impl ClientAddrLayer {
    /// Believes the proxies that the settings name.
    #[must_use]
    pub fn new(settings: AddressSettings) -> Self {
        Self(Arc::new(settings))
    }
}

impl<S> Layer<S> for ClientAddrLayer {
    type Service = FindClientAddr<S>;

    fn layer(&self, inner: S) -> FindClientAddr<S> {
        FindClientAddr { inner, settings: Arc::clone(&self.0) }
    }
}

/// The service of [`ClientAddrLayer`].
#[derive(Debug, Clone)]
pub struct FindClientAddr<S> {
    inner: S,
    settings: Arc<AddressSettings>,
}

impl<S, B> Service<Request<B>> for FindClientAddr<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let peer = request.extensions().get::<PeerAddr>().map(|peer| peer.0.ip());
        if let Some(peer) = peer {
            let client = self.settings.client(peer, request.headers());
            request.extensions_mut().insert(ClientAddr(client));
        }
        if !peer.is_some_and(|peer| self.settings.trusts(peer)) && request.headers().keys().any(is_forwarding) {
            let untrue: Vec<HeaderName> =
                request.headers().keys().filter(|name| is_forwarding(name)).cloned().collect();
            for name in untrue {
                request.headers_mut().remove(name);
            }
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(header: AddressHeader) -> AddressSettings {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|network| network.parse().unwrap());
        AddressSettings { trusted_proxies: trusted.to_vec(), header }
    }

    fn client(header: AddressHeader, peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        let name = if header == AddressHeader::Forwarded { FORWARDED } else { X_FORWARDED_FOR };
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        settings(header).client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn hops_are_counted_from_the_right() {
        let from = |peer, lines: &[&str]| client(AddressHeader::XForwardedFor, peer, lines);
        assert_eq!(from("192.0.2.1", &["6.6.6.6"]), "192.0.2.1", "an untrusted peer is the client");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &["6.6.6.6, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(from("10.0.0.1", &["6.6.6.6", "192.0.2.7, 10.0.0.2"]), "192.0.2.7", "lines are one list");
        assert_eq!(from("::ffff:10.0.0.1", &["192.0.2.7:1234"]), "192.0.2.7");
        assert_eq!(from("2001:db8:1::5", &["[2001:db8:2::1]:80"]), "2001:db8:2::1");
        assert_eq!(from("10.0.0.1", &["192.0.2.7, unknown, 10.0.0.2"]), "10.0.0.2", "no address ends the walk");
        assert_eq!(from("10.0.0.1", &["192.0.2.7,"]), "10.0.0.1");
    }

    #[test]
    fn forwarded_is_read_where_it_is_the_header() {
        let from = |lines: &[&str]| client(AddressHeader::Forwarded, "10.0.0.1", lines);
        assert_eq!(from(&["for=6.6.6.6, for=192.0.2.7;proto=https"]), "192.0.2.7");
        assert_eq!(from(&["proto=https; For=\"[2001:db8:2::1]:4711\""]), "2001:db8:2::1");
        assert_eq!(from(&["for=192.0.2.7;for=6.6.6.6"]), "10.0.0.1", "two say nothing");
        assert_eq!(from(&["for=_hidden"]), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn what_an_untrusted_caller_writes_never_changes_its_address(
            text in "[ -~]{0,60}", peer: u32, forwarded: bool,
        ) {
            let header = if forwarded { AddressHeader::Forwarded } else { AddressHeader::XForwardedFor };
            let peer = IpAddr::from(peer.to_be_bytes());
            prop_assume!(!settings(header).trusts(peer));
            prop_assert_eq!(client(header, &peer.to_string(), &[&text]), peer.to_string());
        }

        #[test]
        fn what_a_caller_writes_before_a_trusted_proxy_never_changes_its_address(text in "[ -~]{0,60}", last: u32) {
            let address = IpAddr::from(last.to_be_bytes());
            prop_assume!(!settings(AddressHeader::XForwardedFor).trusts(address));
            let line = format!("{text}, {address}");
            prop_assert_eq!(client(AddressHeader::XForwardedFor, "10.0.0.1", &[&line]), address.to_string());
            let line = format!("{text}, for={address}");
            prop_assert_eq!(client(AddressHeader::Forwarded, "10.0.0.1", &[&line]), address.to_string());
        }
    }
}
