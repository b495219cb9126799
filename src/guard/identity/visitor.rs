//! The cookie by which a visitor is known again.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};

use super::caller::Caller;
use super::visitor_settings::VisitorSettings;
use crate::guard::TokenAlgorithm;
use crate::guard::token::{TokenKeyError, TokenKeys, open_token_keys};

/// The cookie's name.
pub(super) const COOKIE: &str = "falgate_visitor";
/// For whom it is signed: no token for sockets has this, and the keys are others too.
const AUDIENCE: &str = "falgate-visitor";
/// Longest cookie that is looked at.
const COOKIE_BYTES: usize = 1024;

/// Signs and checks the cookies of visitors. Clones share the keys.
#[derive(Clone)]
pub struct Visitors(Arc<Inner>);

struct Inner {
    keys: TokenKeys,
    life_s: u64,
    reach: CookieReach,
    human: HumanRule,
}

/// Over which connections a browser sends the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieReach {
    /// Any: the gate is reached without TLS.
    Any,
    /// TLS only.
    Secure,
}

/// Who becomes a visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HumanRule {
    /// Everybody.
    Anyone,
    /// Whoever has passed a human check.
    Checked,
}

/// A visitor who is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// The visitor.
    pub caller: Caller,
    /// The visitor's number, 32 hexadecimal digits.
    number: String,
    /// Whether the cookie should be renewed.
    pub is_old: bool,
    checked: bool,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    /// Whether a human check was passed.
    human: bool,
}

impl std::fmt::Debug for Visitors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitors").field("reach", &self.0.reach).field("human", &self.0.human).finish_non_exhaustive()
    }
}

impl Visitors {
    /// Reads the keys, or makes one where the settings name a file that is not there.
    ///
    /// # Errors
    /// [`TokenKeyError`] if there is no key, and none could be kept.
    pub fn open(
        settings: &VisitorSettings,
        look_up: impl Fn(&str) -> Option<String>,
        (reach, human): (CookieReach, HumanRule),
    ) -> Result<Self, TokenKeyError> {
        let keys = open_token_keys(&settings.keys, TokenAlgorithm::Hs256, look_up)?;
        Ok(Self(Arc::new(Inner { keys, life_s: settings.life_s.get().into(), reach, human })))
    }

    /// Who becomes a visitor.
    #[must_use]
    pub fn human(&self) -> HumanRule {
        self.0.human
    }

    /// Reads a cookie's value; `None` for one that was forged, changed, or is over, and for one without the human check
    /// where that is asked for.
    #[must_use]
    pub fn read(&self, value: &str, now: SystemTime) -> Option<Visit> {
        let inner = &*self.0;
        if value.len() > COOKIE_BYTES {
            return None;
        }
        let now = seconds(now);
        let header = jsonwebtoken::decode_header(value).ok()?;
        let key = inner.keys.find(header.kid.as_deref()?, now).filter(|_| header.crit.is_none())?;
        // The key decides how it is checked, whatever the header says. Times are judged below, by the caller's clock.
        let mut rules = Validation::new(key.algorithm.in_jwt());
        rules.validate_exp = false;
        rules.set_audience(&[AUDIENCE]);
        rules.set_required_spec_claims(&["exp", "aud", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(value, &key.check, &rules).ok()?.claims;
        let checked = claims.human || inner.human == HumanRule::Anyone;
        if now >= claims.exp || !checked {
            return None;
        }
        let caller = Caller::visitor(&claims.sub);
        let is_old = now.saturating_sub(claims.iat) > inner.life_s / 2;
        Some(Visit { caller, number: claims.sub, is_old, checked: claims.human })
    }

    /// A `Set-Cookie` for a new visitor, who is what `human` says.
    #[must_use]
    pub fn welcome(&self, human: HumanRule, now: SystemTime) -> HeaderValue {
        let number = format!("{:032x}", rand::random::<u128>());
        self.write(number, human == HumanRule::Checked, now)
    }

    /// A `Set-Cookie` that lets a visitor stay for another while.
    #[must_use]
    pub fn renew(&self, visit: &Visit, now: SystemTime) -> HeaderValue {
        self.write(visit.number.clone(), visit.checked, now)
    }

    fn write(&self, sub: String, human: bool, now: SystemTime) -> HeaderValue {
        let inner = &*self.0;
        let iat = seconds(now);
        let claims = Claims { aud: AUDIENCE.to_owned(), sub, iat, exp: iat + inner.life_s, human };
        let key = inner.keys.signing();
        let mut header = Header::new(key.algorithm.in_jwt());
        header.kid = Some(key.id.clone());
        let value = jsonwebtoken::encode(&header, &claims, &key.sign);
        let value = value.expect("HS256 signs any claims with a key of 32 bytes");
        let secure = if inner.reach == CookieReach::Secure { "; Secure" } else { "" };
        let text = format!("{COOKIE}={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{secure}", inner.life_s);
        HeaderValue::try_from(text).expect("base64 and names of attributes are visible characters")
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const KEY: &str = "HS256 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn visitors(key: &'static str, human: HumanRule) -> Visitors {
        let settings =
            VisitorSettings { keys: crate::guard::TokenKeySource::Env("K".to_owned()), ..VisitorSettings::default() };
        Visitors::open(&settings, |_| Some(key.to_owned()), (CookieReach::Secure, human)).unwrap()
    }

    fn at(day: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + day * 86_400)
    }

    fn value(cookie: &HeaderValue) -> String {
        let text = cookie.to_str().unwrap().split(';').next().unwrap();
        text.strip_prefix("falgate_visitor=").unwrap().to_owned()
    }

    #[test]
    fn a_visitor_is_known_again_until_the_cookie_ends_and_renewed_halfway() {
        let visitors = visitors(KEY, HumanRule::Anyone);
        let cookie = visitors.welcome(HumanRule::Anyone, at(0));
        for attribute in ["Path=/", "Max-Age=2592000", "HttpOnly", "SameSite=Lax", "Secure"] {
            assert!(cookie.to_str().unwrap().split("; ").any(|found| found == attribute), "{attribute}");
        }
        let value_of = value(&cookie);
        let visit = visitors.read(&value_of, at(1)).unwrap();
        assert!(visit.caller.is_visitor() && !visit.is_old);
        let late = visitors.read(&value_of, at(20)).unwrap();
        assert!(late.is_old && late.caller == visit.caller);
        let renewed = visitors.read(&value(&visitors.renew(&late, at(20))), at(40)).unwrap();
        assert_eq!(renewed.caller, visit.caller);
        assert_eq!(visitors.read(&value_of, at(30)), None);
    }

    #[test]
    fn a_forged_or_changed_cookie_is_nobodys() {
        let visitors = visitors(KEY, HumanRule::Anyone);
        let other = super::tests::visitors("HS256 BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA", HumanRule::Anyone);
        assert_eq!(visitors.read(&value(&other.welcome(HumanRule::Anyone, at(0))), at(0)), None);
        let good = value(&visitors.welcome(HumanRule::Anyone, at(0)));
        for at_byte in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at_byte] ^= 1;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(visitors.read(&changed, at(0)), None, "byte {at_byte}");
        }
        for text in ["", "visitor-1", "a.b.c", &"a".repeat(2000)] {
            assert_eq!(visitors.read(text, at(0)), None, "{text:.20}");
        }
    }

    #[test]
    fn a_cookie_without_the_human_check_is_nothing_where_that_is_asked_for() {
        let (open, asking) = (visitors(KEY, HumanRule::Anyone), visitors(KEY, HumanRule::Checked));
        let unchecked = value(&open.welcome(HumanRule::Anyone, at(0)));
        assert_eq!(asking.read(&unchecked, at(0)), None);
        let checked = value(&asking.welcome(HumanRule::Checked, at(0)));
        let visit = asking.read(&checked, at(0)).unwrap();
        assert!(asking.read(&value(&asking.renew(&visit, at(16))), at(17)).is_some(), "and it stays checked");
    }
}
