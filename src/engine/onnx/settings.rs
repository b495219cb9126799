//! What a person chooses about the runtime.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::super::{EngineSettings, Provider};
use super::ModelError;

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
    /// The part of the engine's settings that a model is opened with on the first of the engine's devices.
    ///
    /// # Errors
    /// [`ModelError::NoModel`] if no folder is named.
    pub fn of(settings: &EngineSettings) -> Result<Self, ModelError> {
        Ok(Self {
            model: settings.model.clone().ok_or(ModelError::NoModel)?,
            provider: settings.provider,
            device: settings.devices.first().copied().unwrap_or(0),
            threads: settings.threads,
            max_batch: settings.max_batch,
            cuda_libraries: settings.cuda_libraries.clone(),
        })
    }

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
