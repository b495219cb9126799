//! Why the runtime or a model cannot serve: each message is one sentence that stands alone.

use std::path::PathBuf;

use super::super::VocabularyError;

/// Why the ONNX Runtime library cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// No place has it.
    #[error(
        "ONNX Runtime is not here: run scripts/fetch-onnxruntime.sh, or name its library in engine.library or ORT_DYLIB_PATH"
    )]
    Nowhere,
    /// A place was named, and there is no file.
    #[error("ONNX Runtime library {path}, named by {origin}, does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: super::Origin,
    },
    /// The file is something else.
    #[error("{path}, named by {origin}, is not a shared library")]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: super::Origin,
    },
    /// A shared library, but another one, or one that the system cannot load.
    #[error("{path}, named by {origin}, cannot be loaded as ONNX Runtime ({why})")]
    NotOnnxRuntime {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: super::Origin,
        /// What the loader said.
        why: String,
    },
    /// An ONNX Runtime from before the interface that is used here.
    #[error("{path}, named by {origin}, is ONNX Runtime 1.{minor}, but at least 1.{least} is needed")]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Who named it.
        origin: super::Origin,
        /// Its minor version.
        minor: u32,
        /// The oldest minor version that serves.
        least: u32,
    },
    /// The process has already loaded another file, and there is one runtime per process.
    #[error("{wanted} cannot be loaded beside {loaded}: a process has one ONNX Runtime")]
    Another {
        /// The file that was asked for.
        wanted: PathBuf,
        /// The file that is loaded.
        loaded: PathBuf,
    },
    /// The library is right but does not start.
    #[error("ONNX Runtime at {path} does not start")]
    Start {
        /// The file.
        path: PathBuf,
        /// What it said.
        #[source]
        cause: ort::Error,
    },
}

/// Why a model cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The runtime is not usable.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// No folder is named.
    #[error("engine.model names no model folder")]
    NoModel,
    /// No such folder.
    #[error("model folder {path} does not exist")]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// Files are missing.
    #[error("model folder {path} lacks {}", missing.join(", "))]
    Missing {
        /// The folder.
        path: PathBuf,
        /// The files, relative to the folder.
        missing: Vec<String>,
    },
    /// A model, but of a kind that the engine does not run.
    #[error("model folder {path} {why}")]
    Kind {
        /// The folder.
        path: PathBuf,
        /// What it is, and what would help.
        why: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path} ({cause})")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// A configuration file that is not what it should be.
    #[error("{path} is not a configuration file of this kind ({cause})")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        cause: serde_json::Error,
    },
    /// A vocabulary that is not CLIP's.
    #[error("tokenizer cannot be used: {0}")]
    Vocabulary(#[from] VocabularyError),
    /// A graph or a setting that the engine does not know how to serve.
    #[error("{part} cannot serve: {why}")]
    Unfit {
        /// The part or file.
        part: &'static str,
        /// What does not fit, with the value at fault.
        why: String,
    },
    /// The runtime refuses a graph.
    #[error("{part} cannot be opened: {why}")]
    Open {
        /// The part.
        part: &'static str,
        /// What that means.
        why: String,
        /// What the runtime said.
        #[source]
        cause: ort::Error,
    },
    /// The device that was asked for cannot be had.
    #[error("engine.provider asks for cuda, but {why}")]
    Provider {
        /// What is missing.
        why: String,
    },
}
