//! Where keys come from.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::key::{FalKey, KeyFault};

/// One place to look for a fal key. No key stands in a settings file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeySource {
    /// An environment variable that holds the whole key, `id:secret`.
    Env(String),
    /// Two environment variables that hold its halves.
    EnvPair {
        /// The variable of the id.
        id: String,
        /// The variable of the secret.
        secret: String,
    },
    /// A file that holds the whole key. It is read again when it changes.
    File(PathBuf),
}

/// Why there is no key.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No source gave one.
    #[error("no fal key: set FAL_KEY, or name a variable or file under upstream.keys (looked at {looked_at})")]
    Missing {
        /// The sources that were looked at, by name.
        looked_at: String,
    },
    /// A source gave something else.
    #[error("the fal key in {place} is no key (upstream.keys)")]
    Bad {
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        #[source]
        fault: KeyFault,
    },
    /// One variable of a pair is set and the other is not.
    #[error("the fal key is half set: {missing} is missing (upstream.keys)")]
    Half {
        /// The variable without a value.
        missing: String,
    },
    /// A file cannot be read.
    #[error("cannot read the fal key file {} (upstream.keys)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: Arc<io::Error>,
    },
}

impl KeySource {
    /// The source's name, for messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Env(name) => name.clone(),
            Self::EnvPair { id, secret } => format!("{id} and {secret}"),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Reads the key; `None` when the variables are not set.
    pub(super) fn read(&self, lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<FalKey>, KeyError> {
        let set = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
        let text = match self {
            Self::Env(name) => set(name),
            Self::EnvPair { id, secret } => match (set(id), set(secret)) {
                (Some(id), Some(secret)) => Some(format!("{}:{}", id.trim(), secret.trim())),
                (None, None) => None,
                (Some(_), None) => return Err(KeyError::Half { missing: secret.clone() }),
                (None, Some(_)) => return Err(KeyError::Half { missing: id.clone() }),
            },
            Self::File(path) => return read_file(path).map(Some),
        };
        let key = text.map(FalKey::new).transpose();
        key.map_err(|fault| KeyError::Bad { place: self.name(), fault })
    }
}

/// Reads the key in a file.
pub(super) fn read_file(path: &Path) -> Result<FalKey, KeyError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| KeyError::Unreadable { path: path.to_owned(), cause: Arc::new(cause) })?;
    FalKey::new(text).map_err(|fault| KeyError::Bad { place: path.display().to_string(), fault })
}
