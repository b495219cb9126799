//! What an operator may set about the proxy.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

use super::PolicySettings;
use crate::wire::TargetSettings;

/// The key proxy: where it answers, what may be called through it, and with which inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Answer at `/api/fal/proxy` and everything below it.
    pub enabled: bool,
    /// Answer at `/api/_fal/proxy` too, the route of the oldest releases.
    pub old_path: bool,
    /// Largest request body that is passed on, in bytes. It streams; nothing is collected.
    pub body_limit_bytes: NonZeroU64,
    /// Largest request body of an endpoint with a policy, in bytes. It is held in memory while it is checked.
    pub checked_body_limit_bytes: NonZeroU64,
    /// Longest life of a token that a caller may mint, in seconds. Longer wishes are shortened.
    pub token_life_s: NonZeroU32,
    /// What may be called with the key.
    pub targets: TargetSettings,
    /// Rules for the inputs of endpoints. Every policy whose pattern matches applies, in this order.
    pub policy: Vec<PolicySettings>,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            old_path: false,
            body_limit_bytes: NonZeroU64::new(32 * 1024 * 1024).expect("a literal that is not zero"),
            checked_body_limit_bytes: NonZeroU64::new(16 * 1024 * 1024).expect("a literal that is not zero"),
            token_life_s: NonZeroU32::new(300).expect("a literal that is not zero"),
            targets: TargetSettings::default(),
            policy: Vec::new(),
        }
    }
}

impl ProxySettings {
    /// What is wrong with the values, each with its key path inside `[proxy]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (index, policy) in self.policy.iter().enumerate() {
            for (field, rule) in &policy.fields {
                for fault in rule.faults() {
                    faults.push((format!("policy[{index}].fields.{field}"), fault));
                }
                if field.split('.').any(str::is_empty) {
                    faults.push((format!("policy[{index}].fields.{field}"), "the field has an empty name".to_owned()));
                }
            }
            if policy.fields.is_empty() {
                faults.push((format!("policy[{index}].fields"), "a policy without a field does nothing".to_owned()));
            }
        }
        faults
    }
}
