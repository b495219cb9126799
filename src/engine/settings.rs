//! What a person chooses about the engine.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Posterior;

/// Waiting longer than this for batch mates helps nobody.
const MAX_LINGER_MS: u64 = 1_000;
/// A warm-up picture beyond this is a mistake.
const MAX_WARM_UP_PX: u32 = 4_096;

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU; refused where it cannot be had, never replaced by the processor.
    Cuda,
}

/// The embedded engine: which model runs where, and how jobs wait for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// Whether there is an engine at all. Without one, every call goes to the upstream.
    pub enabled: bool,
    /// Folder of the model, in optimum's ONNX layout.
    pub model: Option<PathBuf>,
    /// The ONNX Runtime library. Without it `ORT_DYLIB_PATH` is asked, then the cache of the fetch script.
    pub library: Option<PathBuf>,
    /// What runs the model: `cpu` or `cuda`. There is no fallback from one to the other.
    pub provider: Provider,
    /// Numbers of the CUDA devices. Each gets the model, a thread and a queue of its own; a job goes to the one on which it is done
    /// soonest.
    pub devices: Vec<u32>,
    /// Folders whose CUDA and cuDNN libraries are loaded before the provider looks for its own.
    pub cuda_libraries: Vec<PathBuf>,
    /// Threads of the CPU provider; without it one a core.
    pub threads: Option<NonZeroUsize>,
    /// Jobs that may wait for a device. One more is refused, or spilled to the upstream where the route says so.
    pub queue: NonZeroUsize,
    /// Pictures that share a call of the device, and that are on their way at once; people join and leave between two steps.
    pub max_batch: NonZeroUsize,
    /// Pictures that one job may ask for.
    pub max_pictures: NonZeroUsize,
    /// How long a job that finds the device at rest waits for others, in milliseconds. Jobs that come while it works join at
    /// the next step anyway; waiting while it rests costs whoever draws alone so much a picture.
    pub linger_ms: u64,
    /// How the encoder's posterior is read: `sample` as diffusers does, or `mode`, which is steadier from frame to frame.
    pub posterior: Posterior,
    /// Prompts whose embeddings are kept.
    pub prompt_cache: NonZeroUsize,
    /// Side of the square picture that warms the model up before it is ready, in pixels. Take the size that is asked for most.
    pub warm_up_px: NonZeroU32,
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            model: None,
            library: None,
            provider: Provider::Cpu,
            devices: vec![0],
            cuda_libraries: Vec::new(),
            threads: None,
            queue: nonzero(64),
            max_batch: nonzero(8),
            max_pictures: nonzero(8),
            linger_ms: 0,
            posterior: Posterior::Sample,
            prompt_cache: nonzero(64),
            warm_up_px: NonZeroU32::new(512).expect("512 is not zero"),
        }
    }
}

fn nonzero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("defaults are not zero")
}

impl EngineSettings {
    /// What is wrong with these settings: the key inside the table, and why. Nothing is looked up on disk.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.to_owned(), what));
        if self.enabled && self.model.as_ref().is_none_or(|model| model.as_os_str().is_empty()) {
            fault("model", "is needed while enabled is true: name the folder of a model".to_owned());
        }
        if self.linger_ms > MAX_LINGER_MS {
            fault("linger_ms", format!("is {}, but may be at most {MAX_LINGER_MS}", self.linger_ms));
        }
        if self.warm_up_px.get() > MAX_WARM_UP_PX {
            fault("warm_up_px", format!("is {}, but may be at most {MAX_WARM_UP_PX}", self.warm_up_px));
        }
        if self.provider == Provider::Cpu && self.devices != [0] {
            let devices = &self.devices;
            fault("devices", format!("is {devices:?}, but the cpu provider has no devices to choose from"));
        } else if self.devices.is_empty() {
            fault("devices", "is empty, but the model needs a device".to_owned());
        }
        let mut sorted = self.devices.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            fault("devices", "names a device twice".to_owned());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert!(EngineSettings::default().faults().is_empty());
    }

    #[test]
    fn all_faults_come_together() {
        let settings = EngineSettings {
            enabled: true,
            linger_ms: 5_000,
            warm_up_px: NonZeroU32::MAX,
            devices: vec![1],
            ..EngineSettings::default()
        };
        let keys: Vec<String> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["model", "linger_ms", "warm_up_px", "devices"]);
        let twice = EngineSettings { provider: Provider::Cuda, devices: vec![1, 0, 1], ..EngineSettings::default() };
        assert_eq!(twice.faults(), [("devices".to_owned(), "names a device twice".to_owned())]);
    }
}
