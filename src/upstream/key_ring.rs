//! The keys at hand: which one is used next, which ones rest, and how they are read anew.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::key::{FalKey, KeyFault};
use super::key_source::{KeyError, KeySource, read_file};

/// How long a key rests that fal refused: longer than a burst, shorter than a shift.
const REFUSED_REST: Duration = Duration::from_secs(60);
/// How long a key rests at its limit when fal does not say.
const LIMITED_REST: Duration = Duration::from_secs(5);

/// One or more fal keys, in order of preference. Clones share the keys and their rests.
///
/// The first key that does not rest is used. When all rest, the one that is back soonest is used all the same: fal's own
/// answer tells the caller more than a refusal made up here.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    sources: Vec<Source>,
    slots: ArcSwap<Vec<Arc<Slot>>>,
    seen: Mutex<Vec<Option<Stamp>>>,
    began: Instant,
}

/// A key that stays, or a file that is read anew.
enum Source {
    Fixed(FalKey),
    File(PathBuf),
}

/// A key and the time until which it rests, in milliseconds since the ring began.
pub(super) struct Slot {
    key: FalKey,
    rests_until_ms: AtomicU64,
}

/// What tells one version of a file from the next. A secret mounted by an orchestrator changes by its link, so the file
/// that is looked at is the one that the link leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

/// Why a key rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// fal answered 401 or 403.
    Refused,
    /// fal answered 429, and may have said for how long.
    Limited(Option<Duration>),
}

impl Slot {
    pub(super) const fn key(&self) -> &FalKey {
        &self.key
    }
}

impl KeyRing {
    /// A ring of one key that never changes.
    ///
    /// # Errors
    /// [`KeyFault`] when the text is no key.
    pub fn single(key: String) -> Result<Self, KeyFault> {
        let key = FalKey::new(key)?;
        Ok(Self::of(vec![(Source::Fixed(key.clone()), key)]))
    }

    /// Reads the keys at `sources`. `lookup` gives the value of an environment variable: this library reads none itself.
    ///
    /// # Errors
    /// [`KeyError`] when no source gives a key, or when one gives something else or cannot be read.
    pub fn open(sources: &[KeySource], lookup: impl Fn(&str) -> Option<String>) -> Result<Self, KeyError> {
        let mut found: Vec<(Source, FalKey)> = Vec::new();
        for source in sources {
            let Some(key) = source.read(&lookup)? else { continue };
            let kept = match source {
                KeySource::File(path) => Source::File(path.clone()),
                KeySource::Env(_) | KeySource::EnvPair { .. } => Source::Fixed(key.clone()),
            };
            found.push((kept, key));
        }
        if found.is_empty() {
            let names: Vec<String> = sources.iter().map(KeySource::name).collect();
            let looked_at = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            return Err(KeyError::Missing { looked_at });
        }
        Ok(Self::of(found))
    }

    fn of(found: Vec<(Source, FalKey)>) -> Self {
        let (sources, keys): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let seen = sources.iter().map(Source::stamp).collect();
        let slots = ArcSwap::from_pointee(slots(keys, &[]));
        Self(Arc::new(Inner { sources, slots, seen: Mutex::new(seen), began: Instant::now() }))
    }

    /// How many different keys there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.slots.load().len()
    }

    /// Reads the key files again, changed or not. Requests under way keep the key that they took.
    ///
    /// # Errors
    /// [`KeyError`] for a file that cannot be read or holds no key. The keys then stay as they were.
    pub fn reload(&self) -> Result<(), KeyError> {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps: Vec<_> = self.0.sources.iter().map(Source::stamp).collect();
        // A file that is wrong is complained of once, not at every look.
        seen.clone_from(&stamps);
        let keys: Result<Vec<FalKey>, KeyError> = self
            .0
            .sources
            .iter()
            .map(|source| match source {
                Source::Fixed(key) => Ok(key.clone()),
                Source::File(path) => read_file(path),
            })
            .collect();
        let keys = keys?;
        let before = self.0.slots.load_full();
        self.0.slots.store(Arc::new(slots(keys, &before)));
        Ok(())
    }

    /// Whether a key file looks different from when it was last read.
    fn has_changed(&self) -> bool {
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.sources.iter().map(Source::stamp).ne(seen.iter().copied())
    }

    /// Looks at the key files every so often and reads them again when they changed. Never ends; dropping it stops it.
    ///
    /// A file that cannot be read or holds no key is logged, and the keys stay as they were.
    pub async fn watch(self, every: Duration) {
        if !self.0.sources.iter().any(|source| matches!(source, Source::File(_))) {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(every).await;
            let ring = self.clone();
            let looked = tokio::task::spawn_blocking(move || ring.has_changed().then(|| ring.reload())).await;
            match looked {
                Ok(Some(Ok(()))) => tracing::info!("read the fal key files again"),
                Ok(Some(Err(error))) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "kept the fal keys at hand");
                }
                Ok(None) | Err(_) => {}
            }
        }
    }

    /// The key to use next, not one of those `tried`.
    pub(super) fn pick(&self, tried: &[Arc<Slot>]) -> Option<Arc<Slot>> {
        let slots = self.0.slots.load();
        if let ([only], []) = (slots.as_slice(), tried) {
            return Some(Arc::clone(only));
        }
        let now = self.now_ms();
        let fresh = slots.iter().filter(|slot| !tried.iter().any(|other| Arc::ptr_eq(slot, other)));
        // The first of the smallest: with none resting that is the first of all.
        fresh.min_by_key(|slot| slot.rests_until_ms.load(Ordering::Relaxed).saturating_sub(now)).cloned()
    }

    /// Whether a text from outside repeats one of the keys.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.0.slots.load().iter().any(|slot| slot.key.is_in(text))
    }

    /// Lets a key rest.
    pub(super) fn rest(&self, slot: &Slot, why: Rest) {
        let long = match why {
            Rest::Refused => REFUSED_REST,
            Rest::Limited(said) => said.map_or(LIMITED_REST, |said| said.min(REFUSED_REST)),
        };
        let until = self.now_ms() + u64::try_from(long.as_millis()).unwrap_or(u64::MAX / 2);
        slot.rests_until_ms.fetch_max(until, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.count()).finish_non_exhaustive()
    }
}

/// One slot per different key. A key that was there before keeps its slot, and so its rest.
fn slots(keys: Vec<FalKey>, before: &[Arc<Slot>]) -> Vec<Arc<Slot>> {
    let mut slots: Vec<Arc<Slot>> = Vec::with_capacity(keys.len());
    for key in keys {
        if slots.iter().any(|slot| slot.key.is_same(&key)) {
            continue;
        }
        let known = before.iter().find(|slot| slot.key.is_same(&key)).cloned();
        slots.push(known.unwrap_or_else(|| Arc::new(Slot { key, rests_until_ms: AtomicU64::new(0) })));
    }
    slots
}

impl Source {
    fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Fixed(_) => None,
            Self::File(path) => stamp(path),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&facts);
    #[cfg(not(unix))]
    let inode = 0;
    Some(Stamp { modified: facts.modified().ok(), bytes: facts.len(), inode })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[(&'static str, &'static str)]) -> Result<KeyRing, KeyError> {
        let sources: Vec<_> = keys.iter().map(|(name, _)| KeySource::Env((*name).to_owned())).collect();
        let keys = keys.to_vec();
        KeyRing::open(&sources, move |name| {
            keys.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_key_that_does_not_rest_is_used() {
        let ring = ring(&[("A", "a:1"), ("B", "b:2")]).unwrap();
        let first = ring.pick(&[]).unwrap();
        let second = ring.pick(&[Arc::clone(&first)]).unwrap();
        assert!(ring.pick(&[Arc::clone(&first), Arc::clone(&second)]).is_none());
        ring.rest(&first, Rest::Refused);
        assert!(Arc::ptr_eq(&ring.pick(&[]).unwrap(), &second));
        ring.rest(&second, Rest::Limited(Some(Duration::from_secs(3))));
        assert!(Arc::ptr_eq(&ring.pick(&[]).unwrap(), &second), "both rest: the one that is back soonest");
        tokio::time::advance(REFUSED_REST).await;
        assert!(Arc::ptr_eq(&ring.pick(&[]).unwrap(), &first));
    }

    #[test]
    fn a_missing_key_names_the_setting() {
        let error = ring(&[]).unwrap_err().to_string();
        assert!(error.contains("upstream.keys") && error.contains("FAL_KEY"), "{error}");
        let sources = [KeySource::EnvPair { id: "ID".to_owned(), secret: "SECRET".to_owned() }];
        let half = KeyRing::open(&sources, |name| (name == "ID").then(|| "x".to_owned())).unwrap_err();
        assert!(half.to_string().contains("SECRET"), "{half}");
        let error = ring(&[("A", "canary key")]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
    }

    #[test]
    fn one_key_named_twice_is_one_key() {
        assert_eq!(ring(&[("A", "a:1"), ("B", "a:1"), ("C", "c:3")]).unwrap().count(), 2);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "a:1\n").unwrap();
        let ring = KeyRing::open(&[KeySource::File(path.clone())], |_| None).unwrap();
        assert!(!ring.has_changed());
        std::fs::write(&path, "bbb:222").unwrap();
        assert!(ring.has_changed());
        ring.reload().unwrap();
        let wanted = FalKey::new("bbb:222".to_owned()).unwrap();
        assert!(ring.pick(&[]).unwrap().key.is_same(&wanted));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(ring.reload(), Err(KeyError::Unreadable { .. })));
        assert!(ring.pick(&[]).unwrap().key.is_same(&wanted));
        assert!(!ring.has_changed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_file_needs_nobody_to_ask_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "a:1").unwrap();
        let ring = KeyRing::open(&[KeySource::File(path.clone())], |_| None).unwrap();
        let watching = tokio::spawn(ring.clone().watch(Duration::from_secs(5)));
        std::fs::write(&path, "bbb:222").unwrap();
        let wanted = FalKey::new("bbb:222".to_owned()).unwrap();
        let mut looks = 0;
        while !ring.pick(&[]).unwrap().key.is_same(&wanted) {
            looks += 1;
            assert!(looks < 100, "the file was not read again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        watching.abort();
    }
}
