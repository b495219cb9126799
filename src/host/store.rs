//! Files in memory: uploads and results, bounded in bytes and in time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

/// Name of a stored file: 128 random bits, so that knowing it is the right to read it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlobId(u128);

impl BlobId {
    /// A new id out of the system's randomness.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Takes 32 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        plain.then(|| u128::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Shows nothing of the id: it is the right to read the file.
impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobId(..)")
    }
}

/// A stored file.
#[derive(Clone)]
pub struct Blob {
    /// The file.
    pub bytes: Bytes,
    /// Its media type, as the uploader told it.
    pub content_type: HeaderValue,
    /// Its name, plain letters only, as the uploader told it.
    pub name: Option<String>,
    expires_at: Instant,
}

impl Blob {
    /// A file that lives for `life` from now.
    #[must_use]
    pub fn new(bytes: Bytes, content_type: HeaderValue, life: Duration) -> Self {
        Self { bytes, content_type, name: None, expires_at: Instant::now() + life }
    }

    /// Time left, rounded down to whole seconds.
    #[must_use]
    pub fn seconds_left(&self) -> u64 {
        self.expires_at.saturating_duration_since(Instant::now()).as_secs()
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes, {:?})", self.bytes.len(), self.content_type)
    }
}

/// A store that is out of room for this one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("file of {bytes} bytes is larger than the whole store of {limit}")]
pub struct StoreTooSmall {
    /// Size of the file.
    pub bytes: usize,
    /// Size of the store, in bytes.
    pub limit: u64,
}

/// The store. Past its bound the files that nobody has read for longest go first. Cheap to clone; clones share the files.
#[derive(Debug, Clone)]
pub struct BlobStore {
    files: Cache<BlobId, Arc<Blob>>,
    limit: u64,
}

struct UntilExpiry;

impl Expiry<BlobId, Arc<Blob>> for UntilExpiry {
    fn expire_after_create(&self, _: &BlobId, blob: &Arc<Blob>, _: std::time::Instant) -> Option<Duration> {
        Some(blob.expires_at.saturating_duration_since(Instant::now()))
    }
}

impl BlobStore {
    /// A store of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        let files = Cache::builder()
            .max_capacity(limit)
            .weigher(|_: &BlobId, blob: &Arc<Blob>| u32::try_from(blob.bytes.len()).unwrap_or(u32::MAX).max(64))
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(UntilExpiry)
            .build();
        Self { files, limit }
    }

    /// Keeps a file under a new id.
    ///
    /// # Errors
    /// [`StoreTooSmall`] for a file that can never fit.
    pub fn keep(&self, blob: Blob) -> Result<BlobId, StoreTooSmall> {
        let id = BlobId::random();
        self.keep_as(id, blob).map(|()| id)
    }

    /// Keeps a file under an id that was handed out before.
    ///
    /// # Errors
    /// [`StoreTooSmall`] for a file that can never fit.
    pub fn keep_as(&self, id: BlobId, blob: Blob) -> Result<(), StoreTooSmall> {
        let bytes = blob.bytes.len();
        if bytes as u64 > self.limit {
            return Err(StoreTooSmall { bytes, limit: self.limit });
        }
        self.files.insert(id, Arc::new(blob));
        // Without this the bound is only kept some inserts later.
        self.files.run_pending_tasks();
        Ok(())
    }

    /// The file of an id, unless it is unknown, expired or gone for want of room.
    #[must_use]
    pub fn get(&self, id: BlobId) -> Option<Arc<Blob>> {
        self.files.get(&id).filter(|blob| blob.expires_at > Instant::now())
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.files.run_pending_tasks();
        self.files.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(bytes: usize, life_s: u64) -> Blob {
        let life = Duration::from_secs(life_s);
        Blob::new(vec![7; bytes].into(), HeaderValue::from_static("image/png"), life)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_gone_when_its_time_is_up() {
        let store = BlobStore::new(1000);
        let id = store.keep(blob(10, 60)).unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(store.get(id).unwrap().bytes.len(), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(store.get(id).is_none());
    }

    #[tokio::test]
    async fn a_full_store_drops_what_nobody_reads() {
        let store = BlobStore::new(1000);
        let first = store.keep(blob(400, 60)).unwrap();
        let second = store.keep(blob(400, 60)).unwrap();
        assert!(store.get(first).is_some());
        let third = store.keep(blob(400, 60)).unwrap();
        assert!(store.held_bytes() <= 1000);
        assert!(store.get(second).is_none());
        assert!(store.get(first).is_some() && store.get(third).is_some());
        assert_eq!(store.keep(blob(1001, 60)).unwrap_err(), StoreTooSmall { bytes: 1001, limit: 1000 });
    }

    #[test]
    fn ids_are_read_back_and_odd_ones_are_none() {
        let id = BlobId::random();
        assert_eq!(BlobId::parse(&id.to_string()), Some(id));
        for odd in ["", "1", "../../etc/passwd", "+0000000000000000000000000000001", "ABCDEF00000000000000000000000000"]
        {
            assert_eq!(BlobId::parse(odd), None, "{odd}");
        }
    }
}
