//! `manifest.json`: what the model tools wrote down of a folder, and whether the files are still those.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ModelError, Ports};

/// The file's name in a model folder.
pub(super) const NAME: &str = "manifest.json";
/// The format that is read.
const FORMAT: &str = "falgate-model/1";
/// A manifest beyond this is none.
const MOST_BYTES: u64 = 4 << 20;

/// How closely files are compared with the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Their sizes alone, which takes no time.
    Sizes,
    /// Their SHA-256 too, which reads every byte.
    Hashes,
}

/// What a manifest says, and what differs from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ManifestReport {
    /// `cpu`, `cuda`, `cpu-taesd` or `cuda-taesd`.
    pub variant: String,
    /// The provider that it was made for: `cpu` runs everywhere.
    pub provider: String,
    /// `float32` or `float16`.
    pub precision: String,
    /// `full` or `taesd`.
    pub autoencoder: String,
    /// Where it came from, in a line.
    pub source: String,
    /// What is known of the licence.
    pub licence: String,
    /// What whoever converted it should know.
    pub notes: Vec<String>,
    /// What was compared when it was made.
    pub checks: Vec<Check>,
    /// Files listed.
    pub files: usize,
    /// Whether the hashes were compared, or the sizes alone.
    pub hashed: bool,
    /// Files that are not as listed, each with how.
    pub differs: Vec<String>,
    /// What each part's graph declares, for parts that cannot be opened here.
    #[serde(skip)]
    pub(super) ports: BTreeMap<String, Ports>,
}

/// One comparison with the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// How far it was off.
    pub deviation: f64,
    /// How far it may be.
    pub tolerance: f64,
    /// The unit of both.
    pub unit: String,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
struct Document {
    format: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    provider: String,
    #[serde(default)]
    precision: String,
    #[serde(default)]
    autoencoder: String,
    #[serde(default)]
    source: Source,
    #[serde(default)]
    licence: String,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    checks: Vec<Check>,
    #[serde(default)]
    parts: BTreeMap<String, Ports>,
    files: BTreeMap<String, Listed>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Source {
    kind: String,
    name: String,
    lora: Option<Named>,
    taesd: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    bytes: u64,
    sha256: String,
}

impl Source {
    fn line(&self) -> String {
        let mut line = format!("{} {}", self.kind, self.name);
        for (what, named) in [("LoRA", &self.lora), ("TAESD", &self.taesd)] {
            if let Some(Named { name }) = named {
                line.push_str(&format!(", {what} {name}"));
            }
        }
        line.trim().to_owned()
    }
}

/// Reads the manifest of a folder and compares the files with it; `None` for a folder without one.
///
/// # Errors
/// [`ModelError`] for a manifest that cannot be read or has another format.
pub fn manifest(folder: &Path, compare: Compare) -> Result<Option<ManifestReport>, ModelError> {
    let path = folder.join(NAME);
    let Ok(file) = File::open(&path) else { return Ok(None) };
    let mut text = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut text).map_err(|cause| ModelError::Read { path: path.clone(), cause })?;
    let document: Document =
        serde_json::from_slice(&text).map_err(|cause| ModelError::Json { path: path.clone(), cause })?;
    if document.format != FORMAT {
        let why = format!("its format is {:?}, not {FORMAT:?}: it is of another falgate", document.format);
        return Err(ModelError::Unfit { part: NAME, why });
    }
    let differs = document.files.iter().filter_map(|(name, listed)| differs(folder, (name, listed), compare)).collect();
    Ok(Some(ManifestReport {
        variant: document.variant,
        provider: document.provider,
        precision: document.precision,
        autoencoder: document.autoencoder,
        source: document.source.line(),
        licence: document.licence,
        notes: document.notes,
        checks: document.checks,
        files: document.files.len(),
        hashed: compare == Compare::Hashes,
        differs,
        ports: document.parts,
    }))
}

/// How a file differs from what is listed; `None` where it does not.
fn differs(folder: &Path, (name, listed): (&str, &Listed), compare: Compare) -> Option<String> {
    let inside = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Some(format!("{name} is no place inside the folder"));
    }
    let path = folder.join(name);
    match std::fs::metadata(&path) {
        Err(_) => Some(format!("{name} is not there")),
        Ok(found) if found.len() != listed.bytes => {
            Some(format!("{name} has {} bytes, not {}", found.len(), listed.bytes))
        }
        Ok(_) if compare == Compare::Sizes => None,
        Ok(_) => match hash(&path) {
            Ok(hash) if hash == listed.sha256 => None,
            Ok(_) => Some(format!("{name} has another hash")),
            Err(error) => Some(format!("{name} cannot be read ({error})")),
        },
    }
}

/// The SHA-256 of a file in hex.
fn hash(path: &Path) -> std::io::Result<String> {
    let (mut file, mut digest, mut block) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => digest.update(&block[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.bin"), "abc").unwrap();
        std::fs::write(folder.path().join(NAME), text).unwrap();
        folder
    }

    fn listing(bytes: u64, sha256: &str) -> String {
        let files = format!(r#"{{"a.bin": {{"bytes": {bytes}, "sha256": "{sha256}"}}}}"#);
        format!(r#"{{"format": "{FORMAT}", "variant": "cpu", "files": {files}}}"#)
    }

    #[test]
    fn files_are_compared_by_size_and_only_when_asked_by_hash() {
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (bytes, hash, compare, want) in [
            (3, right, Compare::Hashes, &[][..]),
            (3, "00", Compare::Sizes, &[]),
            (3, "00", Compare::Hashes, &["a.bin has another hash"]),
            (4, right, Compare::Hashes, &["a.bin has 3 bytes, not 4"]),
        ] {
            let folder = folder_with(&listing(bytes, hash));
            assert_eq!(manifest(folder.path(), compare).unwrap().unwrap().differs, want);
        }
    }

    #[test]
    fn a_manifest_never_leads_out_of_its_folder() {
        for name in ["../a.bin", "/etc/passwd"] {
            let folder = folder_with(&listing(3, "00").replace("a.bin", name));
            let report = manifest(folder.path(), Compare::Hashes).unwrap().unwrap();
            assert_eq!(report.differs, [format!("{name} is no place inside the folder")]);
        }
    }

    #[test]
    fn a_manifest_of_another_format_is_refused() {
        let folder = folder_with(&listing(3, "00").replace("model/1", "model/9"));
        let error = manifest(folder.path(), Compare::Sizes).unwrap_err().to_string();
        assert!(error.starts_with("manifest.json cannot serve: its format is \"falgate-model/9\""), "{error}");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(manifest(folder.path(), Compare::Sizes).unwrap(), None);
    }
}
