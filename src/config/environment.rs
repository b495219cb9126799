//! The process environment as a value: only `main` reads the real one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

/// Variables that begin with this are settings; the rest of the name is the key, with `__` between its parts.
pub const SETTING_PREFIX: &str = "FALGATE__";

/// What surrounds the process: its variables, what its command line sets, and whether its disk may be looked at.
///
/// Variables are split into settings and everything else. Everything else may be a secret and is held as one.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub(super) settings: BTreeMap<String, Result<String, NotText>>,
    pub(super) flags: Vec<Flag>,
    others: BTreeMap<String, SecretString>,
    disk: Disk,
}

/// A key that the command line sets.
#[derive(Debug, Clone)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, Default)]
enum Disk {
    #[default]
    OutOfSight,
    InSight,
}

/// A variable holds bytes that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the variable's value is not UTF-8")]
pub(super) struct NotText;

impl Environment {
    /// Takes variables as the system gives them. A name that is no text can name nothing of ours and is left out.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            if name.starts_with(SETTING_PREFIX) {
                environment.settings.insert(name, value.into_string().map_err(|_| NotText));
            } else {
                // What is no text is no key either, and whoever reads it says so.
                environment.others.insert(name, value.to_string_lossy().into_owned().into());
            }
        }
        environment
    }

    /// Lets files and folders that a configuration names be looked for.
    #[must_use]
    pub const fn with_disk(mut self) -> Self {
        self.disk = Disk::InSight;
        self
    }

    /// Sets a key over the file and over the variables, in the name of a flag.
    #[must_use]
    pub fn with_flag(mut self, name: &'static str, key: &'static str, text: impl Into<String>) -> Self {
        self.flags.push(Flag { name, key, text: text.into() });
        self
    }

    pub(super) fn sees_disk(&self) -> bool {
        matches!(self.disk, Disk::InSight)
    }

    /// Whether the disk is in sight and nothing is there.
    pub(super) fn lacks(&self, path: &Path) -> bool {
        match self.disk {
            Disk::OutOfSight => false,
            Disk::InSight => !path.exists(),
        }
    }

    /// The variable's value, which may be a secret: hand it to a type that hides it. Settings are not found here.
    #[must_use]
    pub fn look_up(&self, name: &str) -> Option<String> {
        self.others.get(name).map(|value| value.expose_secret().to_owned())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self::new(variables.map(|(name, value)| (name.into(), value.into())))
    }
}
