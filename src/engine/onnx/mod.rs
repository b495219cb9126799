//! Models in the ONNX folder layout of optimum, run by ONNX Runtime.
//!
//! The runtime is a shared library that is found and loaded when a model is opened, never linked: a program without the
//! library starts, and says in one sentence what is missing when it is asked for an engine.

mod backend;
mod batches;
mod checker;
mod config;
mod error;
mod folder;
mod inspect;
mod library;
mod manifest;
mod open;
mod pixels;
mod port;
mod provider;
mod report;
mod session;
mod settings;
mod signature;
mod tensors;
mod vocabulary;

pub use backend::OnnxBackend;
pub use checker::has_safety_checker;
pub use error::{LibraryError, ModelError};
pub use inspect::{Inspection, PartReport, inspect};
pub use library::{Found, LibraryPlaces, Origin, Runtime, cached};
pub use manifest::{Check, Compare, ManifestReport, manifest};
pub use open::{open, rehearse, tokenizer};
pub use port::{Dim, Element, Port, Ports};
pub use settings::OnnxSettings;
