//! Whose share of a limit a call is charged to.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::settings::ShareBy;
use crate::wire::{EndpointId, EndpointPattern};

/// What no key shows as it is, so that one line of a terminal and one path of a URL can hold any caller's name.
const HIDDEN: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'\\').add(b'^');

/// The prefix of IPv6 that providers give one site at most (RFC 6177).
const SITE_PREFIX: u8 = 48;

/// Who is without a tier.
pub const ANONYMOUS_TIER: &str = "anonymous";

/// Who calls, and what: all that a limit may ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The caller's address, behind trusted proxies.
    pub address: IpAddr,
    /// The caller's name, where it is known.
    pub caller: Option<Arc<str>>,
    /// The caller's tier, where it has one.
    pub tier: Option<Arc<str>>,
    /// The endpoint, where the call names one.
    pub endpoint: Option<EndpointId>,
}

/// What tells one share from another. It hashes the same in every process, so that a ledger can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Share<'a> {
    /// Of an address, or of a network of IPv6.
    Address(u128),
    /// Of a site: an address of IPv4, or [`SITE_PREFIX`] bits of IPv6.
    Site(u128),
    /// Of a caller.
    Caller(&'a str),
    /// Of a tier.
    Tier(&'a str),
    /// Of an app, without the path below it.
    Endpoint(&'a str),
    /// Of everybody.
    All,
}

impl Subject {
    /// The tier, or the word for none.
    pub(super) fn tier(&self) -> &str {
        self.tier.as_deref().unwrap_or(ANONYMOUS_TIER)
    }

    /// The share that this call is charged to. Calls without an endpoint share one.
    pub(super) fn share(&self, by: ShareBy, ipv6_prefix: u8) -> Share<'_> {
        match (by, &self.caller) {
            (ShareBy::Caller | ShareBy::Named, Some(caller)) => Share::Caller(caller),
            (ShareBy::Address, _) | (ShareBy::Caller | ShareBy::Named, None) => {
                Share::Address(network(self.address, ipv6_prefix))
            }
            (ShareBy::Site, _) => Share::Site(site(self.address)),
            (ShareBy::Tier, _) => Share::Tier(self.tier()),
            (ShareBy::Endpoint, _) => Share::Endpoint(self.endpoint.as_ref().map_or("", EndpointId::app)),
            (ShareBy::All, _) => Share::All,
        }
    }

    /// Whether a limit with such shares and these lists is about this call.
    pub(super) fn is_meant(&self, by: ShareBy, tiers: &[String], endpoints: &[EndpointPattern]) -> bool {
        if by == ShareBy::Named && self.caller.is_none() {
            return false;
        }
        let by_tier = tiers.is_empty() || tiers.iter().any(|tier| tier == self.tier());
        let is_named = |pattern: &EndpointPattern| self.endpoint.as_ref().is_some_and(|id| pattern.matches(id));
        by_tier && (endpoints.is_empty() || endpoints.iter().any(is_named))
    }
}

impl Share<'_> {
    /// The share as bytes that never change, for a ledger: a letter and what follows it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let named = |letter: u8, name: &[u8]| [&[letter], name].concat();
        match self {
            Self::Address(bits) => named(b'a', &bits.to_be_bytes()),
            Self::Site(bits) => named(b's', &bits.to_be_bytes()),
            Self::Caller(name) => named(b'c', name.as_bytes()),
            Self::Tier(name) => named(b't', name.as_bytes()),
            Self::Endpoint(name) => named(b'e', name.as_bytes()),
            Self::All => vec![b'*'],
        }
    }
}

/// As an operator writes it: `caller:ann`, `address:203.0.113.7`, `all`; percent-encoded where a name is not plain.
impl std::fmt::Display for Share<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(bits) => write!(f, "address:{}", shown(*bits)),
            Self::Site(bits) => write!(f, "site:{}", shown(*bits)),
            Self::Caller(name) => write!(f, "caller:{}", utf8_percent_encode(name, HIDDEN)),
            Self::Tier(name) => write!(f, "tier:{}", utf8_percent_encode(name, HIDDEN)),
            Self::Endpoint(name) => write!(f, "endpoint:{}", utf8_percent_encode(name, HIDDEN)),
            Self::All => f.write_str("all"),
        }
    }
}

impl<'a> Share<'a> {
    /// The text of a key as it was before it was percent-encoded; `None` where that is no text.
    pub(super) fn decode(key: &str) -> Option<Cow<'_, str>> {
        percent_decode_str(key).decode_utf8().ok()
    }

    /// Reads what [`Display`](std::fmt::Display) writes, once it is decoded; an IPv6 address means its network.
    pub(super) fn parse(text: &'a str, ipv6_prefix: u8) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        match kind {
            "address" => Some(Self::Address(network(name.parse().ok()?, ipv6_prefix))),
            "site" => Some(Self::Site(site(name.parse().ok()?))),
            "caller" => Some(Self::Caller(name)),
            "tier" => Some(Self::Tier(name)),
            "endpoint" => Some(Self::Endpoint(name)),
            _ => None,
        }
    }

    /// Whether a limit with this share could have such a share.
    pub(super) const fn is_of(&self, by: ShareBy) -> bool {
        match self {
            // A caller without a name is known by the address.
            Self::Address(_) => matches!(by, ShareBy::Address | ShareBy::Caller),
            Self::Site(_) => matches!(by, ShareBy::Site),
            Self::Caller(_) => matches!(by, ShareBy::Caller | ShareBy::Named),
            Self::Tier(_) => matches!(by, ShareBy::Tier),
            Self::Endpoint(_) => matches!(by, ShareBy::Endpoint),
            Self::All => matches!(by, ShareBy::All),
        }
    }
}

/// The site of an address: itself for IPv4, [`SITE_PREFIX`] bits of IPv6.
pub(in crate::guard) fn site(address: IpAddr) -> u128 {
    network(address, SITE_PREFIX)
}

/// The address that begins a network.
fn shown(bits: u128) -> IpAddr {
    IpAddr::from(std::net::Ipv6Addr::from(bits)).to_canonical()
}

/// An IPv4 address as IPv6 writes it, or the first `prefix` bits of an IPv6 address.
fn network(address: IpAddr, prefix: u8) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject(address: &str) -> Subject {
        Subject {
            address: address.parse().unwrap(),
            caller: None,
            tier: None,
            endpoint: EndpointId::parse("fal-ai/lcm"),
        }
    }

    #[test]
    fn a_caller_without_a_name_is_known_by_the_address() {
        let nobody = subject("203.0.113.7");
        assert_eq!(nobody.share(ShareBy::Caller, 64), nobody.share(ShareBy::Address, 64));
        let ann = Subject { caller: Some("ann".into()), ..nobody };
        assert_eq!(ann.share(ShareBy::Caller, 64), Share::Caller("ann"));
        assert_eq!(subject("::ffff:203.0.113.7").share(ShareBy::Address, 64), ann.share(ShareBy::Address, 64));
    }

    #[test]
    fn an_operator_writes_a_share_as_it_is_shown() {
        let named = [
            "all",
            "caller:ann",
            "tier:pro",
            "endpoint:fal-ai/lcm",
            "address:203.0.113.7",
            "address:2001:db8::",
            "site:203.0.113.7",
            "site:2001:db8:1::",
        ];
        for text in named {
            assert_eq!(Share::parse(text, 64).unwrap().to_string(), text);
        }
        let odd = Share::Caller("a b\u{1b}[2J/50%ü");
        assert_eq!(odd.to_string(), "caller:a%20b%1B[2J/50%25%C3%BC", "a terminal is shown no control characters");
        assert_eq!(Share::parse(&Share::decode(&odd.to_string()).unwrap(), 64), Some(odd));
        assert_eq!(Share::decode("caller:%FF"), None);
        assert_eq!(Share::parse("address:2001:db8::7", 64), Share::parse("address:2001:db8::8", 64));
        assert!(["", "ann", "caller:", "address:home"].iter().all(|text| Share::parse(text, 64).is_none()));
    }

    #[test]
    fn a_limit_is_about_its_tiers_and_endpoints() {
        let call = Subject { tier: Some("pro".into()), ..subject("::1") };
        let lcm = [EndpointPattern::parse("fal-ai/lcm").unwrap()];
        let flux = [EndpointPattern::parse("fal-ai/flux").unwrap()];
        let all = ShareBy::All;
        assert!(call.is_meant(all, &[], &[]) && call.is_meant(all, &["pro".to_owned()], &lcm));
        assert!(!call.is_meant(all, &["free".to_owned()], &lcm) && !call.is_meant(all, &[], &flux));
        assert!(subject("::1").is_meant(all, &[ANONYMOUS_TIER.to_owned()], &[]));
        assert!(!call.is_meant(ShareBy::Named, &[], &[]), "who has no name is left to other limits");
        assert!(Subject { caller: Some("ann".into()), ..call }.is_meant(ShareBy::Named, &[], &[]));
    }

    proptest! {
        #[test]
        fn hopping_within_a_network_of_ipv6_gains_nothing(network in any::<u64>(), one in any::<u64>(), other in any::<u64>()) {
            prop_assume!(network >= 1 << 32);
            let at = |host: u64| {
                let bits = (u128::from(network) << 64) | u128::from(host);
                Subject { address: IpAddr::V6(bits.into()), ..subject("::1") }
            };
            let (one, other) = (at(one), at(other));
            prop_assert_eq!(one.share(ShareBy::Address, 64), other.share(ShareBy::Address, 64));
        }

        #[test]
        fn hopping_between_the_networks_of_a_site_gains_nothing(site in 1_u64 << 32..1 << 48, one in any::<u128>(), other in any::<u128>()) {
            let at = |host: u128| {
                let bits = (u128::from(site) << 80) | (host >> 48);
                Subject { address: IpAddr::V6(bits.into()), ..subject("::1") }
            };
            let next = Subject { address: IpAddr::V6((u128::from(site ^ 1) << 80).into()), ..subject("::1") };
            let (one, other) = (at(one), at(other));
            prop_assert_eq!(one.share(ShareBy::Site, 64), other.share(ShareBy::Site, 64));
            prop_assert_ne!(one.share(ShareBy::Site, 64), next.share(ShareBy::Site, 64));
        }

        #[test]
        fn a_network_of_ipv6_is_as_wide_as_its_prefix(address in 1_u128 << 96.., prefix in 1_u8..=128) {
            let at = |bits: u128| Subject { address: IpAddr::V6(bits.into()), ..subject("::1") };
            let (first, last) = (address & (u128::MAX << (128 - u32::from(prefix))), address | u128::MAX.checked_shr(prefix.into()).unwrap_or(0));
            let share = |bits| Share::bytes(&at(bits).share(ShareBy::Address, prefix));
            prop_assert_eq!(share(first), share(last));
            prop_assert_ne!(share(first), share(first ^ (1 << (128 - u32::from(prefix)))));
        }
    }
}
