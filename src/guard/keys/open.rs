//! Where keys are read from, and read again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::line::{AccessKey, KeyFault};
use super::list::{AccessKeys, parse};
use super::settings::KeySettings;

/// Largest file of keys that is read: some ten thousand lines.
const FILE_BYTES: u64 = 1024 * 1024;

/// Why there are no access keys. It never shows one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysUnusable {
    /// The variable is not set.
    #[error("the variable {name} is not set (guard.keys.env)")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read {} (guard.keys.file)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// What is there is no list of keys.
    #[error("the access keys in {place} cannot be used (guard.keys)")]
    Fault {
        /// A path or the name of a variable.
        place: String,
        /// Why not.
        #[source]
        cause: KeyFault,
    },
}

/// A list of keys.
pub(super) enum Source {
    /// From a variable, which does not change. Only hashes are kept of it.
    Fixed(Vec<AccessKey>),
    /// From a file.
    File(PathBuf),
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Source {
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let Self::File(path) = self else { return None };
        let facts = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified: facts.modified().ok(),
            bytes: facts.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&facts),
        })
    }

    /// The keys, those without a name numbered after the `before` of other places.
    fn read(&self, before: usize) -> Result<Vec<AccessKey>, KeysUnusable> {
        match self {
            Self::Fixed(keys) => Ok(keys.clone()),
            Self::File(path) => read_file(path, before),
        }
    }
}

fn read_file(path: &Path, before: usize) -> Result<Vec<AccessKey>, KeysUnusable> {
    let unreadable = |cause| KeysUnusable::Unreadable { path: path.to_owned(), cause };
    if std::fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES {
        return Err(unreadable(io::Error::other("the file is too large for a list of keys")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse([text.as_str()], before).map_err(|cause| KeysUnusable::Fault { place: path.display().to_string(), cause })
}

fn read_all(sources: &[Source]) -> Result<Vec<AccessKey>, KeysUnusable> {
    let mut keys = Vec::new();
    for source in sources {
        keys.extend(source.read(keys.len())?);
    }
    Ok(keys)
}

impl AccessKeys {
    /// Reads the keys that the settings name; `None` where they name none. `look_up` gives the value of an environment
    /// variable.
    ///
    /// # Errors
    /// [`KeysUnusable`] for a place that is named and holds no keys: nobody is let in by a list that is not there.
    pub fn open(
        settings: &KeySettings,
        look_up: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, KeysUnusable> {
        let mut sources = Vec::new();
        if let Some(name) = &settings.env {
            let text = look_up(name).ok_or_else(|| KeysUnusable::Unset { name: name.clone() })?;
            let keys = parse([text.as_str()], 0);
            sources.push(Source::Fixed(keys.map_err(|cause| KeysUnusable::Fault { place: name.clone(), cause })?));
        }
        sources.extend(settings.file.clone().map(Source::File));
        if sources.is_empty() {
            return Ok(None);
        }
        // Stamps first: a change while the keys are read is then seen at the next look.
        let stamps = sources.iter().map(Source::stamp).collect();
        let keys = Self::of(read_all(&sources)?, sources);
        *keys.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamps;
        Ok(Some(keys))
    }

    /// Reads the file again, changed or not. Requests under way keep who they are.
    ///
    /// # Errors
    /// [`KeysUnusable`] for a file that cannot be read or holds no key. The keys then stay as they were.
    pub fn reload(&self) -> Result<(), KeysUnusable> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that is wrong is complained of once, not at every look.
        *seen = self.0.sources.iter().map(Source::stamp).collect();
        if !self.0.sources.is_empty() {
            self.0.keys.store(std::sync::Arc::new(read_all(&self.0.sources)?));
        }
        Ok(())
    }

    fn has_changed(&self) -> bool {
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.sources.iter().map(Source::stamp).ne(seen.iter().copied())
    }

    /// Looks at the file every so often and reads it again when it changed. Never ends; dropping it stops it.
    ///
    /// A file that cannot be read or holds no key is logged, and the keys stay as they were.
    pub async fn watch(self, every: Duration) {
        if !self.0.sources.iter().any(|source| matches!(source, Source::File(_))) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(every).await;
            let keys = self.clone();
            let looked = tokio::task::spawn_blocking(move || keys.has_changed().then(|| keys.reload())).await;
            match looked {
                Ok(Some(Ok(()))) => tracing::info!("read the access keys again"),
                Ok(Some(Err(error))) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "kept the access keys at hand");
                }
                Ok(None) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::guard::KeyRefusal;

    fn opens(keys: &AccessKeys, key: &'static str) -> Result<String, KeyRefusal> {
        keys.check(Some(&HeaderValue::from_static(key))).map(|holder| holder.caller.name.to_string())
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "ann 1111:secret-of-ann\n").unwrap();
        let settings = KeySettings { env: Some("KEYS".to_owned()), file: Some(path.clone()) };
        let keys = AccessKeys::open(&settings, |_| Some("bob 2222:secret-of-bob".to_owned())).unwrap().unwrap();
        assert_eq!(opens(&keys, "Key 1111:secret-of-ann").unwrap(), "ann");
        std::fs::write(&path, "cleo 3333:secret-of-cleo\n").unwrap();
        assert!(keys.has_changed());
        keys.reload().unwrap();
        assert_eq!(opens(&keys, "Key 1111:secret-of-ann"), Err(KeyRefusal::Unknown));
        for broken in ["", "dan short", "# nobody"] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(keys.reload(), Err(KeysUnusable::Fault { .. })), "{broken}");
            assert_eq!(opens(&keys, "Key 3333:secret-of-cleo").unwrap(), "cleo");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(keys.reload(), Err(KeysUnusable::Unreadable { .. })));
        assert!(!keys.has_changed(), "it is complained of once");
        assert_eq!(opens(&keys, "Key 2222:secret-of-bob").unwrap(), "bob", "the variable's stay as well");
    }

    #[test]
    fn a_place_without_keys_is_refused_and_nothing_is_shown() {
        let env = KeySettings { env: Some("KEYS".to_owned()), file: None };
        assert!(matches!(AccessKeys::open(&env, |_| None), Err(KeysUnusable::Unset { .. })));
        let error = AccessKeys::open(&env, |_| Some("canary".to_owned())).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert!(AccessKeys::open(&KeySettings::default(), |_| None).unwrap().is_none());
    }
}
