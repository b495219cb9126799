//! Reads CLIP's vocabulary from a model folder: `vocab.json` and `merges.txt`, or a `tokenizer.json` that holds both.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::super::ClipTokenizer;
use super::ModelError;

/// `tokenizer.json`, as far as it is read.
#[derive(Deserialize)]
struct Whole {
    model: Model,
}

/// The model in `tokenizer.json`.
#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// A merge as older and newer tools write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

/// Reads the tokenizer of a model folder, for prompts of `length` ids.
///
/// # Errors
/// [`ModelError`] with the file that cannot be read or is not a CLIP vocabulary.
pub(super) fn read(folder: &Path, length: usize) -> Result<ClipTokenizer, ModelError> {
    let folder = folder.join("tokenizer");
    let (vocab, merges, whole) = (folder.join("vocab.json"), folder.join("merges.txt"), folder.join("tokenizer.json"));
    if whole.is_file() && !(vocab.is_file() && merges.is_file()) {
        let Whole { model } = parse(&whole)?;
        let pairs: Vec<_> = model.merges.into_iter().filter_map(Merge::pair).collect();
        return Ok(ClipTokenizer::new(&model.vocab, &pairs, length)?);
    }
    let vocabulary: HashMap<String, u32> = parse(&vocab)?;
    let text = std::fs::read_to_string(&merges).map_err(|cause| ModelError::Read { path: merges.clone(), cause })?;
    let pairs: Vec<_> = text.lines().filter(|line| !line.starts_with("#version")).filter_map(pair).collect();
    Ok(ClipTokenizer::new(&vocabulary, &pairs, length)?)
}

/// Reads a JSON file.
fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|cause| ModelError::Read { path: path.to_owned(), cause })?;
    serde_json::from_slice(&bytes).map_err(|cause| ModelError::Json { path: path.to_owned(), cause })
}

/// Two symbols with a space between them.
fn pair(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    Some((left.to_owned(), right.to_owned()))
}

impl Merge {
    /// The two symbols.
    fn pair(self) -> Option<(String, String)> {
        match self {
            Self::Line(line) => pair(&line),
            Self::Pair(left, right) => Some((left, right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_write_a_vocabulary_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer");
        std::fs::create_dir(&tokenizer).unwrap();
        let vocab = r#"{"a": 0, "b</w>": 1, "ab</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}"#;
        for merges in [r#"["a b</w>"]"#, r#"[["a", "b</w>"]]"#] {
            let whole = format!(r#"{{"version": "1.0", "model": {{"vocab": {vocab}, "merges": {merges}}}}}"#);
            std::fs::write(tokenizer.join("tokenizer.json"), whole).unwrap();
            assert_eq!(read(folder.path(), 4).unwrap().ids("ab"), [3, 2, 4, 4]);
        }
        std::fs::write(tokenizer.join("vocab.json"), vocab).unwrap();
        std::fs::write(tokenizer.join("merges.txt"), "#version: 0.2\na b</w>\n").unwrap();
        std::fs::remove_file(tokenizer.join("tokenizer.json")).unwrap();
        assert_eq!(read(folder.path(), 4).unwrap().ids("AB"), [3, 2, 4, 4]);
        std::fs::write(tokenizer.join("vocab.json"), "[1]").unwrap();
        let error = read(folder.path(), 4).unwrap_err().to_string();
        assert!(error.contains("vocab.json is not a configuration file of this kind (invalid type"), "{error}");
    }
}
