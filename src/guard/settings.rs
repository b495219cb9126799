//! The guard's table of the configuration.

use serde::{Deserialize, Serialize};

use super::{AddressSettings, KeySettings, OriginSettings, TokenSettings};

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct GuardSettings {
    /// Whom to believe about where a request comes from.
    pub address: AddressSettings,
    /// Which pages may call from a browser.
    pub origins: OriginSettings,
    /// Access keys for fal-shaped paths at the gate itself. With keys, whoever holds one may call all that the proxy may;
    /// without, everybody may call the endpoints that the engine answers, and nothing of fal's.
    pub keys: KeySettings,
    /// Tokens that open sockets.
    pub tokens: TokenSettings,
}

impl GuardSettings {
    /// What is wrong with the values, each with its key path inside `[guard]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let named = |table: &'static str| move |(key, why): (String, String)| (format!("{table}.{key}"), why);
        let origins = self.origins.faults().into_iter().map(named("origins"));
        origins.chain(self.tokens.faults().into_iter().map(named("tokens"))).collect()
    }
}
