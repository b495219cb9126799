//! Uploads and downloads (protocol spec 8): upload URLs, the bytes they take, and the files that come of them.

mod direct;
mod error;
mod files;
mod initiate;
mod lifetime;
mod settings;
mod upload_token;

pub use error::StorageError;
pub use files::{FILES_PATH, FilesService};
pub use settings::StorageSettings;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use moka::sync::Cache;

use super::store::{Blob, BlobId, BlobStore, StoreTooSmall};
use crate::wire::{MemoryBudget, PublicOrigin};
use upload_token::UploadTokens;

/// Upload URLs that are remembered as used. Older ones have expired long before so many were handed out.
const REMEMBERED_UPLOADS: u64 = 100_000;

/// Everything about stored files. Cheap to clone; clones share the files.
#[derive(Clone)]
pub struct Storage {
    settings: Arc<StorageSettings>,
    files: BlobStore,
    tokens: Arc<UploadTokens>,
    used: Cache<BlobId, ()>,
    /// Memory that uploads under way may fill.
    arriving: MemoryBudget,
}

impl Storage {
    /// An empty store. Upload URLs of an earlier start are void: the key that signs them is new.
    #[must_use]
    pub fn new(settings: StorageSettings) -> Self {
        let used = Cache::builder()
            .max_capacity(REMEMBERED_UPLOADS)
            .time_to_live(Duration::from_secs(settings.upload_url_valid_s.get()))
            .build();
        Self {
            files: BlobStore::new(settings.max_bytes.get()),
            tokens: Arc::new(UploadTokens::new()),
            used,
            arriving: MemoryBudget::new(settings.uploading_bytes.get()),
            settings: Arc::new(settings),
        }
    }

    /// The id in a URL of a stored file, at whatever origin: the gate may have been called by another name when it took
    /// the file (`rest.fal.ai` for the upload, `fal.run` for the run), and no two files share an id.
    #[must_use]
    pub fn file_id(url: &str) -> Option<BlobId> {
        let (_, rest) = url.trim().split_once("://")?;
        let path = &rest[rest.find('/')?..];
        files::id_of(path.strip_prefix(FILES_PATH)?.split(['?', '#']).next()?)
    }

    /// Whether a URL is one of this gate's files for sure, kept or gone: it starts with one of `origins`.
    #[must_use]
    pub fn is_own(url: &str, origins: &[&PublicOrigin]) -> bool {
        let url = url.trim();
        origins.iter().any(|origin| {
            url.split_at_checked(origin.0.len())
                .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(&origin.0) && rest.starts_with(FILES_PATH))
        })
    }

    /// The bytes of a stored file.
    #[must_use]
    pub fn read(&self, id: BlobId) -> Option<Bytes> {
        self.files.get(id).map(|blob| blob.bytes.clone())
    }

    /// Keeps a result and gives its name below the files path, `0123….jpeg`.
    ///
    /// - `headers`: of the request; a lifecycle preference may shorten the file's life.
    ///
    /// # Errors
    /// [`StoreTooSmall`] for a file that can never fit.
    pub fn keep_result(
        &self,
        bytes: Bytes,
        content_type: &'static str,
        headers: &HeaderMap,
    ) -> Result<String, StoreTooSmall> {
        let life = lifetime::wanted(headers, &self.settings);
        let id = self.files.keep(Blob::new(bytes, HeaderValue::from_static(content_type), life))?;
        Ok(files::file_name(id, content_type))
    }

    /// The absolute URL of a name below the files path.
    #[must_use]
    pub fn url_of(name: &str, origin: &PublicOrigin) -> String {
        format!("{}{FILES_PATH}{name}", origin.0)
    }

    /// The service for everything below [`FILES_PATH`].
    #[must_use]
    pub fn files(&self) -> FilesService {
        FilesService::new(self.clone())
    }
}
