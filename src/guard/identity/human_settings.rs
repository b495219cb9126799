//! `[guard.human]`: a check that a visitor is a person.

use std::num::NonZeroU64;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::inquire::is_private_url;

/// A check that visitors are people, by a widget in the page. Callers without a name who have not passed it are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HumanSettings {
    /// Whose widget the page shows: `turnstile` (Cloudflare) or `hcaptcha`.
    pub provider: HumanProvider,
    /// Where the widget's secret is: `{ env = "…" }` or `{ file = "…" }`.
    pub secret: HumanSecret,
    /// Hosts of the pages that may show the widget, as the provider tells them. Empty takes any that the provider lets.
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// The action that the widget must have been shown for. Only for `turnstile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Where the provider is asked. Without it, at its own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_url: Option<String>,
    /// How long the provider's answer is waited for, in milliseconds.
    #[serde(default = "timeout")]
    pub timeout_ms: NonZeroU64,
}

const fn timeout() -> NonZeroU64 {
    NonZeroU64::new(5000).expect("not zero")
}

/// Who checks for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HumanProvider {
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    Hcaptcha,
}

/// Where the widget's secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HumanSecret {
    /// A variable of the environment.
    Env(String),
    /// A file with nothing else in it.
    File(PathBuf),
}

impl HumanSettings {
    /// Where the provider is asked.
    pub(super) fn url(&self) -> &str {
        let own = match self.provider {
            HumanProvider::Turnstile => "https://challenges.cloudflare.com/turnstile/v0/siteverify",
            HumanProvider::Hcaptcha => "https://api.hcaptcha.com/siteverify",
        };
        self.verify_url.as_deref().unwrap_or(own)
    }

    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: &str| faults.push((key.to_owned(), why.to_owned()));
        if !is_private_url(self.url()) {
            fault("verify_url", "is no https URL; plain http is for this machine only");
        }
        if self.action.is_some() && self.provider == HumanProvider::Hcaptcha {
            fault("action", "is nothing that hcaptcha tells");
        }
        faults
    }
}
