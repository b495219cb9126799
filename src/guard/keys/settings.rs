//! `[guard.keys]`: where access keys are.

use serde::{Deserialize, Serialize};

/// Where access keys come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct KeySettings {
    /// Environment variable that holds access keys, one a line: `<key>`, or `<name> <key>` to tell callers apart, with
    /// `tier=<tier>` behind it where limits ask for one. `sha256:<64 hexadecimal digits>` stands for a key of that hash:
    /// `falgate key new` makes both. A key that fal's clients can send has the form `<id>:<secret>`.
    pub env: Option<String>,
    /// File that holds access keys, one a line, in the same form. Lines that start with `#` are skipped. It is read again
    /// when it changes.
    pub file: Option<std::path::PathBuf>,
}

impl KeySettings {
    /// Whether there are no keys, so that nobody is asked for one.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.env.is_none() && self.file.is_none()
    }
}
