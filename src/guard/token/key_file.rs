//! Where signing keys are kept.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

use super::claims::seconds;
use super::key::{self, TokenKey, TokenKeyFault};
use super::keys::TokenKeys;
use super::settings::{TokenAlgorithm, TokenKeySource, TokenSettings};

/// Largest key file that is read.
const FILE_BYTES: u64 = 64 * 1024;
const HEADING: &str = "\
# Signing keys of falgate. Keep this file to yourself: whoever reads it can sign as this gate does.
# The first key signs. For the keys of tokens, `falgate token rotate` puts a new one before it.
";

/// Why there are no signing keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenKeyError {
    /// The variable is not set.
    #[error("the variable {name} is not set")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The file is there and cannot be read.
    #[error("cannot read the token keys in {} (guard.tokens.keys)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The file is not there and cannot be made.
    #[error("cannot keep a token key in {} (guard.tokens.keys)", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Others may read the file.
    #[error("{} may be read by others: chmod 600 (guard.tokens.keys)", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// What is there are no keys.
    #[error("the token keys in {place} cannot be used")]
    Fault {
        /// A path or the name of a variable.
        place: String,
        /// Why not.
        #[source]
        cause: TokenKeyFault,
    },
    /// Keys in a variable or in memory are not this program's to change.
    #[error("only keys in a file can be rotated; guard.tokens.keys names none")]
    NoFile,
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    #[cfg(unix)]
    inode: u64,
}

pub(super) fn stamp(source: &TokenKeySource) -> Option<Stamp> {
    let TokenKeySource::File(path) = source else { return None };
    let facts = std::fs::metadata(path).ok()?;
    Some(Stamp {
        modified: facts.modified().ok(),
        bytes: facts.len(),
        #[cfg(unix)]
        inode: std::os::unix::fs::MetadataExt::ino(&facts),
    })
}

/// Reads the keys at `source`, and makes a file with a new one where it is not there.
pub(in crate::guard) fn open(
    source: &TokenKeySource,
    algorithm: TokenAlgorithm,
    look_up: impl Fn(&str) -> Option<String>,
) -> Result<TokenKeys, TokenKeyError> {
    match source {
        TokenKeySource::Memory => Ok(parse(&key::new_line(algorithm), algorithm, "memory")?),
        TokenKeySource::Env(name) => {
            let text = look_up(name).ok_or_else(|| TokenKeyError::Unset { name: name.clone() })?;
            parse(&SecretString::from(text), algorithm, name)
        }
        TokenKeySource::File(path) => {
            if !path.try_exists().map_err(|cause| TokenKeyError::Unreadable { path: path.clone(), cause })? {
                let text = format!("{HEADING}{}\n", key::new_line(algorithm).expose_secret());
                // Two gates that start at once both make one; whoever comes second takes the first one's.
                match keep(path, &SecretString::from(text), Keep::New) {
                    Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
                    kept => kept.map_err(|cause| TokenKeyError::Unwritable { path: path.clone(), cause })?,
                }
            }
            read(path, algorithm)
        }
    }
}

/// Says whether opening the file would find keys, and makes none: a file that is not there yet is no fault.
///
/// # Errors
/// [`TokenKeyError`] for keys that are there and cannot be used, and for a variable that is not set.
pub fn judge(settings: &TokenSettings, look_up: impl Fn(&str) -> Option<String>) -> Result<(), TokenKeyError> {
    match &settings.keys {
        TokenKeySource::File(path) if !path.exists() => Ok(()),
        TokenKeySource::File(_) | TokenKeySource::Env(_) | TokenKeySource::Memory => {
            open(&settings.keys, settings.algorithm, look_up).map(drop)
        }
    }
}

/// Reads the keys in a file.
pub(super) fn read(path: &Path, algorithm: TokenAlgorithm) -> Result<TokenKeys, TokenKeyError> {
    parse(&text_of(path)?, algorithm, &path.display().to_string())
}

/// Puts a new key before the others, which are believed as long as any token that they signed may live. Keys that have
/// ended are taken out. The gate that uses the file reads it again by itself.
///
/// # Errors
/// [`TokenKeyError`] if the keys are in no file, or the file cannot be read or written. It is then as it was.
pub fn rotate(settings: &TokenSettings, now: SystemTime) -> Result<(), TokenKeyError> {
    let TokenKeySource::File(path) = &settings.keys else { return Err(TokenKeyError::NoFile) };
    let before = text_of(path)?;
    let now = seconds(now);
    let until = now + u64::from(settings.life.most_s.get()) + u64::from(settings.leeway_s);
    let mut text = format!("{HEADING}{}\n", key::new_line(settings.algorithm).expose_secret());
    for (at, line) in before.expose_secret().lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = path.display().to_string();
        let key =
            TokenKey::read(line).ok_or(TokenKeyError::Fault { place, cause: TokenKeyFault::Line { line: at + 1 } })?;
        match key.until {
            None => text.push_str(&format!("{line} until={until}\n")),
            Some(until) if now < until => text.push_str(&format!("{line}\n")),
            Some(_) => {}
        }
    }
    keep(path, &SecretString::from(text), Keep::Instead)
        .map_err(|cause| TokenKeyError::Unwritable { path: path.clone(), cause })
}

fn parse(text: &SecretString, algorithm: TokenAlgorithm, place: &str) -> Result<TokenKeys, TokenKeyError> {
    TokenKeys::read(text.expose_secret(), algorithm)
        .map_err(|cause| TokenKeyError::Fault { place: place.to_owned(), cause })
}

fn text_of(path: &Path) -> Result<SecretString, TokenKeyError> {
    let unreadable = |cause| TokenKeyError::Unreadable { path: path.to_owned(), cause };
    let facts = std::fs::metadata(path).map_err(unreadable)?;
    if facts.len() > FILE_BYTES {
        return Err(unreadable(io::Error::other("the file is too large for a list of keys")));
    }
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&facts.permissions());
        // A group may read it: that is how orchestrators mount secrets.
        if mode & 0o037 != 0 {
            return Err(TokenKeyError::Open { path: path.to_owned() });
        }
    }
    std::fs::read_to_string(path).map(SecretString::from).map_err(unreadable)
}

/// Whether a file may already be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    New,
    Instead,
}

/// Writes a file that is either whole or not there, for its owner only.
fn keep(path: &Path, text: &SecretString, how: Keep) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".token-keys.{:016x}", rand::random::<u64>()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut file| {
        file.write_all(text.expose_secret().as_bytes())?;
        file.sync_all()
    });
    let put = written.and_then(|()| match how {
        // A link is not made over a file that is there, a renamed file is.
        Keep::New => std::fs::hard_link(&draft, path),
        Keep::Instead => std::fs::rename(&draft, path),
    });
    // After a rename there is no draft any more.
    if std::fs::remove_file(&draft).is_err() && how == Keep::New {
        tracing::warn!("a draft of the token keys stayed behind");
    }
    put?;
    std::fs::File::open(folder)?.sync_all()
}
