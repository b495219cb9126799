//! What a person chooses about the runtime.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which model runs where.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxSettings {
    /// The model's folder.
    pub model: PathBuf,
    /// The device.
    pub provider: Provider,
    /// Number of the CUDA device.
    pub device: u32,
    /// Threads of the CPU provider; `None` takes one a core.
    pub threads: Option<NonZeroUsize>,
    /// Rows that one call may hold.
    pub max_batch: NonZeroUsize,
    /// Folders whose CUDA and cuDNN libraries are loaded before the provider looks for them.
    pub cuda_libraries: Vec<PathBuf>,
}

impl OnnxSettings {
    /// Settings for a model on the CPU with as many threads as cores, eight rows a call.
    #[must_use]
    pub fn cpu(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            provider: Provider::Cpu,
            device: 0,
            threads: None,
            max_batch: NonZeroUsize::new(8).expect("eight is not zero"),
            cuda_libraries: Vec::new(),
        }
    }
}

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU; refused where it cannot be had, never replaced by the processor.
    Cuda,
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}
