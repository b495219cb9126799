//! `[guard.visitors]`: callers without a name who are known again.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guard::TokenKeySource;

/// Visitors: browsers that get a signed cookie, so that limits can tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct VisitorSettings {
    /// Give callers without a name a cookie, by which they are `visitor-…` from their next call on. Whoever throws it away
    /// is new again, so limit by address as well, or ask for a human check.
    pub enabled: bool,
    /// Where the keys are that sign cookies, as for `guard.tokens.keys`. Gates behind one address share them.
    pub keys: TokenKeySource,
    /// How long a cookie holds, in seconds. It is renewed when half of that is over.
    pub life_s: NonZeroU32,
}

impl Default for VisitorSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            keys: TokenKeySource::File(PathBuf::from("state/visitor-keys")),
            life_s: NonZeroU32::new(30 * 86_400).expect("not zero"),
        }
    }
}

impl VisitorSettings {
    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let empty = match &self.keys {
            TokenKeySource::File(path) => path.as_os_str().is_empty(),
            TokenKeySource::Env(name) => name.is_empty(),
            TokenKeySource::Memory => false,
        };
        empty.then(|| ("keys".to_owned(), "is empty".to_owned())).into_iter().collect()
    }
}
