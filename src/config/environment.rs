//! The process environment as a value: only `main` reads the real one.

use std::collections::BTreeMap;
use std::ffi::OsString;

use secrecy::SecretString;

/// Variables that begin with this are settings; the rest of the name is the key, with `__` between its parts.
pub const SETTING_PREFIX: &str = "FALGATE__";

/// Environment variables, split into settings and everything else. Everything else may be a secret and is held as one.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    pub(super) settings: BTreeMap<String, Result<String, NotText>>,
    others: BTreeMap<String, Result<SecretString, NotText>>,
}

/// A variable holds bytes that are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the variable's value is not UTF-8")]
pub struct NotText;

impl Environment {
    /// Takes variables as the system gives them. A name that is no text can name nothing of ours and is left out.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            let value = value.into_string().map_err(|_| NotText);
            if name.starts_with(SETTING_PREFIX) {
                environment.settings.insert(name, value);
            } else {
                environment.others.insert(name, value.map(SecretString::from));
            }
        }
        environment
    }

    /// The variable's value; `None` when it is not set. Settings are not found here.
    ///
    /// # Errors
    /// [`NotText`] if it is set to something that is no text.
    pub fn get(&self, name: &str) -> Result<Option<&SecretString>, NotText> {
        self.others.get(name).map(Result::as_ref).transpose().map_err(|not_text| *not_text)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self::new(variables.map(|(name, value)| (name.into(), value.into())))
    }
}
