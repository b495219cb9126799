//! What a token says. Pure: the time comes from whoever asks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::check::{TokenFault, TokenUse};

/// The claims of a token (RFC 7519 section 4.1), with the apps that it opens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    pub(super) aud: String,
    /// The caller's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    /// The caller's tier, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tier: Option<String>,
    /// Aliases of apps.
    pub(super) apps: Vec<String>,
    pub(super) iat: u64,
    pub(super) exp: u64,
    /// 128 random bits, as hexadecimal digits.
    pub(super) jti: String,
    /// The origin of the page that alone may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<String>,
}

impl Claims {
    /// Whether a token with these claims, rightly signed, opens what is asked.
    pub(super) fn judge(&self, used: &TokenUse<'_>, leeway: Duration) -> Result<(), TokenFault> {
        let (now, leeway) = (seconds(used.now), leeway.as_secs());
        if now >= self.exp.saturating_add(leeway) {
            return Err(TokenFault::Expired);
        }
        if self.iat > now.saturating_add(leeway) {
            return Err(TokenFault::FromTheFuture);
        }
        if !self.apps.iter().any(|app| app == used.alias) {
            return Err(TokenFault::App);
        }
        if self.origin.as_deref().is_some_and(|bound| !used.origin.is_some_and(|origin| is_bound_to(origin, bound))) {
            return Err(TokenFault::Origin);
        }
        Ok(())
    }

    /// The number of the token.
    pub(super) fn id(&self) -> Result<u128, TokenFault> {
        u128::from_str_radix(&self.jti, 16).map_err(|_| TokenFault::Malformed)
    }
}

/// Whether a page of `origin` is the one that a token is bound to: an origin, or `//host:port` of either scheme.
fn is_bound_to(origin: &str, bound: &str) -> bool {
    let Some(host) = bound.strip_prefix("//") else { return origin == bound };
    let (authority, port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let plain = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    plain(authority) == plain(host)
}

/// Seconds since 1970; a clock before that is at 0.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(alias: &str, origin: Option<&str>, now: u64) -> Result<(), TokenFault> {
        let claims = Claims {
            iss: "falgate".to_owned(),
            aud: "falgate".to_owned(),
            sub: None,
            tier: None,
            apps: vec!["lcm".to_owned(), "flux".to_owned()],
            iat: 1000,
            exp: 1120,
            jti: "1".to_owned(),
            origin: origin.map(|_| "https://draw.example".to_owned()),
        };
        let now = UNIX_EPOCH + Duration::from_secs(now);
        let origin = origin.filter(|origin| !origin.is_empty());
        claims.judge(&TokenUse { alias, origin, now }, Duration::from_secs(5))
    }

    #[test]
    fn a_token_holds_from_its_minting_to_its_end_give_or_take_the_leeway() {
        assert_eq!([judge("lcm", None, 995), judge("flux", None, 1124)], [Ok(()), Ok(())]);
        assert_eq!(judge("lcm", None, 994), Err(TokenFault::FromTheFuture));
        assert_eq!(judge("lcm", None, 1125), Err(TokenFault::Expired));
    }

    #[test]
    fn a_host_is_the_same_behind_a_proxy_that_ends_tls() {
        assert!(
            is_bound_to("https://gate.test", "//Gate.test") && is_bound_to("http://gate.test:8787", "//gate.test:8787")
        );
        assert!(is_bound_to("https://gate.test", "//gate.test:443"));
        for other in ["https://gate.test:8443", "https://gate.test.evil", "null", "gate.test", "ftp://gate.test"] {
            assert!(!is_bound_to(other, "//gate.test"), "{other}");
        }
    }

    #[test]
    fn a_token_opens_its_apps_for_its_page_only() {
        assert_eq!(judge("lcm-sd15-i2i", None, 1000), Err(TokenFault::App));
        assert_eq!(judge("lcm", Some("https://draw.example"), 1000), Ok(()));
        assert_eq!(judge("lcm", Some("https://draw.example.evil"), 1000), Err(TokenFault::Origin));
        assert_eq!(judge("lcm", Some(""), 1000), Err(TokenFault::Origin));
    }
}
