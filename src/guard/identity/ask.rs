//! Asks each way in turn who calls.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::registry::Registry;

use super::caller::Caller;
use super::credentials::{Authorization, Credentials, is_jwt};
use super::jwt::JwtVerifier;
use super::metrics::{IdentityMetrics, Who};
use super::session::Sessions;
use super::visitor::{COOKIE, HumanRule, Visit, Visitors};
use crate::guard::{ANONYMOUS_TIER, AccessKeys, KeyRefusal, Tier};
use crate::wire::{Problem, ToProblem as _};

/// A way to find out who calls, ready to be asked.
#[derive(Debug, Clone)]
pub enum IdentityBy {
    /// By the application's own token.
    Jwt(JwtVerifier),
    /// By an access key.
    Keys(AccessKeys),
    /// By the application's session.
    Session(Sessions),
    /// By the gate's own cookie.
    Visitor(Visitors),
}

/// The ways to find out who calls, in the order in which they are asked. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    ways: Arc<[IdentityBy]>,
    metrics: IdentityMetrics,
}

/// Who calls, as far as that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) caller: Option<Caller>,
    pub(super) tier: Option<Tier>,
    /// A visitor who is known.
    pub(super) visit: Option<Visit>,
}

impl Known {
    fn named(name: Arc<str>, tier: Option<Arc<str>>) -> Result<Self, Problem> {
        let caller = Caller { name };
        if caller.is_visitor() {
            // Whoever could choose such a name would share the cookies' callers.
            tracing::warn!(caller = %caller.name, "a token or session names its caller as only visitors are named");
            return Err(Problem::new(http::StatusCode::UNAUTHORIZED, "This name is not one for callers"));
        }
        Ok(Self { caller: Some(caller), tier: tier.map(Tier), visit: None })
    }
}

impl Identity {
    /// Asks these ways, in this order.
    #[must_use]
    pub fn new(ways: Vec<IdentityBy>) -> Self {
        Self { ways: ways.into(), metrics: IdentityMetrics::default() }
    }

    /// Shows in `registry` how many callers are known, and how many are refused.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Whether nobody is asked for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.is_empty()
    }

    /// Whether a caller could have a name: visitors have none.
    #[must_use]
    pub fn names_callers(&self) -> bool {
        self.ways.iter().any(|way| !matches!(way, IdentityBy::Visitor(_)))
    }

    /// Who is known without a name, where somebody is.
    #[must_use]
    pub fn visitors(&self) -> Option<&Visitors> {
        self.ways.iter().find_map(|way| if let IdentityBy::Visitor(visitors) = way { Some(visitors) } else { None })
    }

    /// Whether callers without a name must have passed a human check.
    #[must_use]
    pub fn asks_for_humans(&self) -> bool {
        self.visitors().is_some_and(|visitors| visitors.human() == HumanRule::Checked)
    }

    /// Who sent these, counted.
    pub(super) async fn recognise(&self, credentials: &Credentials, now: SystemTime) -> Result<Known, Problem> {
        let known = if credentials.is_empty() { Ok(Known::default()) } else { self.ask(credentials, now).await };
        self.metrics.count(match &known {
            Ok(Known { caller: Some(caller), .. }) if caller.is_visitor() => Who::Visitor,
            Ok(Known { caller: Some(_), .. }) => Who::Named,
            Ok(Known { caller: None, .. }) => Who::Nobody,
            Err(problem) if problem.status().is_server_error() => Who::Unchecked,
            Err(_) => Who::Refused,
        });
        known
    }

    /// Who sent these. The first way that finds a credential of its kind decides.
    async fn ask(&self, credentials: &Credentials, now: SystemTime) -> Result<Known, Problem> {
        let authorization = credentials.authorization();
        let has = |is: fn(&IdentityBy) -> bool| self.ways.iter().any(is);
        let has_jwt = has(|way| matches!(way, IdentityBy::Jwt(_)));
        let has_keys = has(|way| matches!(way, IdentityBy::Keys(_)));
        let malformed = || KeyRefusal::Malformed.to_problem();
        for way in self.ways.iter() {
            match (way, &authorization) {
                (IdentityBy::Jwt(_) | IdentityBy::Keys(_), Authorization::Several) => return Err(malformed()),
                (IdentityBy::Jwt(verifier), Authorization::Bearer(_, token)) if !has_keys || is_jwt(token) => {
                    let known = verifier.check(token, now).await.map_err(|fault| fault.to_problem())?;
                    return Known::named(known.caller, known.tier);
                }
                (IdentityBy::Keys(keys), Authorization::Bearer(header, token)) if !has_jwt || !is_jwt(token) => {
                    return by_key(keys, header);
                }
                (IdentityBy::Keys(keys), Authorization::Other(header)) => return by_key(keys, header),
                (IdentityBy::Session(sessions), _) => {
                    if let Some(cookies) = sessions.cookies(credentials) {
                        return by_session(sessions, &cookies).await;
                    }
                }
                (IdentityBy::Visitor(visitors), _) => {
                    let visit = credentials.cookies(COOKIE).find_map(|value| visitors.read(value, now));
                    let unread = !matches!(authorization, Authorization::None) && self.names_by_header();
                    if let Some(visit) = visit.filter(|_| !unread) {
                        let tier = Some(Tier(ANONYMOUS_TIER.into()));
                        return Ok(Known { caller: Some(visit.caller.clone()), tier, visit: Some(visit) });
                    }
                }
                (IdentityBy::Jwt(_) | IdentityBy::Keys(_), _) => {}
            }
        }
        // A credential that no way can read is a bad one, not none.
        match authorization {
            Authorization::None => Ok(Known::default()),
            _ if self.names_by_header() => Err(malformed()),
            _ => Ok(Known::default()),
        }
    }

    fn names_by_header(&self) -> bool {
        self.ways.iter().any(|way| matches!(way, IdentityBy::Jwt(_) | IdentityBy::Keys(_)))
    }
}

fn by_key(keys: &AccessKeys, header: &http::HeaderValue) -> Result<Known, Problem> {
    let holder = keys.check(Some(header)).map_err(|refusal| refusal.to_problem())?;
    Known::named(holder.caller.name, holder.tier)
}

async fn by_session(sessions: &Sessions, cookies: &str) -> Result<Known, Problem> {
    match sessions.check(cookies).await {
        Ok(holder) => Known::named(holder.caller, holder.tier),
        Err(fault) => {
            let problem = fault.to_problem();
            if problem.status().is_server_error() {
                let cause = std::error::Error::source(&fault).map(ToString::to_string);
                tracing::error!(error = %fault, cause, "a call was refused because its session could not be checked");
            }
            Err(problem)
        }
    }
}
