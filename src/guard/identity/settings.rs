//! `[guard.identity]`: in which order callers are asked who they are, and who may go without.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How callers are recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct IdentitySettings {
    /// In which order the ways are asked that have settings: `jwt`, `keys`, `session`, `visitor`. The first whose credential
    /// a request carries decides; a bad one is refused, and no later way is asked.
    pub order: Vec<IdentityWay>,
    /// Who may call where a `[[route]]` does not say: `required` (callers with a name), `anonymous` (everybody) or `deny`
    /// (nobody). Without it fal-shaped paths at the gate itself need a caller with a name where there are keys, tokens or
    /// sessions to have one by. The key proxy, which `guard.origins` guards, needs one where there are tokens or sessions,
    /// and no visitors. Whoever has no name goes no further than the engine at the gate's own paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callers: Option<CallerPolicy>,
    /// File with authorities to trust beside the web's, in PEM, when the issuer of tokens, the application or the human
    /// check is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self { order: IdentityWay::ALL.to_vec(), callers: None, ca_file: None }
    }
}

/// A way to find out who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum IdentityWay {
    /// The application's own token, as `Authorization: Bearer`.
    Jwt,
    /// An access key, as `Authorization: Key`.
    Keys,
    /// The application's session cookie.
    Session,
    /// The gate's own cookie for visitors.
    Visitor,
}

impl IdentityWay {
    /// All of them, in the usual order.
    const ALL: [Self; 4] = [Self::Jwt, Self::Keys, Self::Session, Self::Visitor];
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CallerPolicy {
    /// Nobody: the route is closed.
    Deny,
    /// Everybody, by name where they have one.
    Anonymous,
    /// Callers with a name: by key, token or session. Visitors have none.
    Required,
}

impl IdentitySettings {
    /// Every value that cannot work: key path inside the table, and why. `set` says which ways have settings.
    #[must_use]
    pub fn faults(&self, set: impl Fn(IdentityWay) -> bool) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |why: String| faults.push(("order".to_owned(), why));
        for (at, way) in self.order.iter().enumerate() {
            if self.order[..at].contains(way) {
                fault(format!("names {} twice", way.as_str()));
            }
        }
        let visitor = self.order.iter().position(|way| *way == IdentityWay::Visitor);
        if visitor.is_some_and(|at| at + 1 != self.order.len()) {
            fault("names visitor before others: whoever has a name would be taken for a visitor".to_owned());
        }
        for way in IdentityWay::ALL {
            if set(way) && !self.order.contains(&way) {
                fault(format!("does not name {}, which has settings and would never be asked", way.as_str()));
            }
        }
        faults
    }
}

impl IdentityWay {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::Keys => "keys",
            Self::Session => "session",
            Self::Visitor => "visitor",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_would_never_be_asked_is_a_fault() {
        let settings =
            IdentitySettings { order: vec![IdentityWay::Keys, IdentityWay::Keys], callers: None, ca_file: None };
        let faults = settings.faults(|way| way == IdentityWay::Jwt);
        assert_eq!(faults.len(), 2, "{faults:?}");
        let settings =
            IdentitySettings { order: vec![IdentityWay::Visitor, IdentityWay::Keys], callers: None, ca_file: None };
        assert_eq!(settings.faults(|_| false).len(), 1, "a visitor's cookie hides nobody's name");
        assert_eq!(IdentitySettings::default().faults(|_| true), []);
    }
}
