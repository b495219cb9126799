//! Limits of stored files.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// Files that the gate keeps in memory: uploads, and results of runs that do not ask for them inline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// Bytes of all files together. Past it, the files that nobody has read for longest go first.
    pub max_bytes: NonZeroU64,
    /// Largest upload, in bytes.
    pub max_file_bytes: NonZeroU64,
    /// Memory that uploads under way may fill together, in bytes. More uploads are refused with 429.
    pub uploading_bytes: NonZeroU64,
    /// How long a file is kept, in seconds. Callers may ask for less, never for more.
    pub keep_s: NonZeroU64,
    /// How long an upload URL can be used, in seconds.
    pub upload_url_valid_s: NonZeroU64,
}

const fn number(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).expect("not zero")
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            max_bytes: number(256 * 1024 * 1024),
            max_file_bytes: number(50 * 1024 * 1024),
            uploading_bytes: number(128 * 1024 * 1024),
            keep_s: number(3600),
            upload_url_valid_s: number(600),
        }
    }
}

impl StorageSettings {
    /// What is wrong with the values, each with its key inside this table.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (key, limit) in [("max_bytes", self.max_bytes), ("uploading_bytes", self.uploading_bytes)] {
            if limit < self.max_file_bytes {
                faults.push((key.to_owned(), format!("{limit} is less than max_file_bytes, {}", self.max_file_bytes)));
            }
        }
        if self.max_file_bytes.get() > u64::from(u32::MAX) {
            faults.push(("max_file_bytes".to_owned(), format!("{} is more than 4 GiB", self.max_file_bytes)));
        }
        faults
    }
}
