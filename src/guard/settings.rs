//! The guard's table of the configuration.

use serde::{Deserialize, Serialize};

use super::{
    AddressSettings, HumanSettings, IdentitySettings, IdentityWay, JwtSettings, KeySettings, OriginSettings,
    SessionSettings, TokenSettings, VisitorSettings,
};

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct GuardSettings {
    /// Whom to believe about where a request comes from.
    pub address: AddressSettings,
    /// Which pages may call from a browser.
    pub origins: OriginSettings,
    /// How callers are recognised. Whoever has a name, by a token, a key or a session, may call at the gate's own fal-shaped
    /// paths all that the proxy may; without any way to have one everybody may call the endpoints that the engine answers
    /// there, and nothing of fal's.
    pub identity: IdentitySettings,
    /// The application's own tokens, as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSettings>,
    /// Access keys, as `Authorization: Key`.
    pub keys: KeySettings,
    /// The application's own sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionSettings>,
    /// Callers without a name who are known again.
    pub visitors: VisitorSettings,
    /// A check that visitors are people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub human: Option<HumanSettings>,
    /// Tokens that open sockets.
    pub tokens: TokenSettings,
}

impl GuardSettings {
    /// What is wrong with the values, each with its key path inside `[guard]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let named = |table: &'static str| move |(key, why): (String, String)| (format!("{table}.{key}"), why);
        let origins = self.origins.faults().into_iter().map(named("origins"));
        let tokens = self.tokens.faults().into_iter().map(named("tokens"));
        let identity = self.identity.faults(|way| self.has(way)).into_iter().map(named("identity"));
        let jwt = self.jwt.iter().flat_map(JwtSettings::faults).map(named("jwt"));
        let session = self.session.iter().flat_map(SessionSettings::faults).map(named("session"));
        let visitors = self.visitors.faults().into_iter().map(named("visitors"));
        let human = self.human.iter().flat_map(HumanSettings::faults).map(named("human"));
        let alone = origins.chain(tokens).chain(identity).chain(jwt).chain(session).chain(visitors).chain(human);
        alone.chain(self.contradictions()).collect()
    }

    /// Whether there are settings for a way.
    #[must_use]
    pub fn has(&self, way: IdentityWay) -> bool {
        match way {
            IdentityWay::Jwt => self.jwt.is_some(),
            IdentityWay::Keys => !self.keys.is_open(),
            IdentityWay::Session => self.session.is_some(),
            IdentityWay::Visitor => self.visitors.enabled,
        }
    }

    /// Whether callers can have a name.
    #[must_use]
    pub fn names_callers(&self) -> bool {
        [IdentityWay::Jwt, IdentityWay::Keys, IdentityWay::Session].into_iter().any(|way| self.has(way))
    }

    /// What no table can tell by itself.
    fn contradictions(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: &str| faults.push((key.to_owned(), why.to_owned()));
        if self.human.is_some() && !self.visitors.enabled {
            fault("human", "is set, but guard.visitors.enabled is false, so nobody could be let in by it");
        }
        if self.identity.callers == Some(super::CallerPolicy::Required) && !self.names_callers() {
            fault("identity.callers", "is `required`, but there are no tokens, keys or sessions to be known by");
        }
        if self.session.is_some() && self.origins.allow.iter().any(|origin| origin == "*") {
            fault("session", "is set, but guard.origins lets every page call, in the name of whoever is logged in");
        }
        faults
    }
}
