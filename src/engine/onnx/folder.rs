//! A model folder as optimum writes it: what is there, what it says, what is missing.

use std::path::{Path, PathBuf};

use super::super::{ModelFacts, ScheduleFacts, Timesteps};
use super::{ModelError, checker, config, manifest, signature};

/// The parts in the order in which they run; each is a folder with a `model.onnx`.
pub(super) const PARTS: [&str; 4] = ["text_encoder", "vae_encoder", "unet", "vae_decoder"];

/// What the configuration files of a folder say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Folder {
    /// The folder.
    pub(super) path: PathBuf,
    /// The folder's name.
    pub(super) name: String,
    /// Ids a prompt is padded to.
    pub(super) prompt_tokens: usize,
    /// Width of the text embedding, where it is said.
    pub(super) text_width: Option<usize>,
    /// Width that the UNet wants, where it is said.
    pub(super) unet_text_width: Option<usize>,
    /// Width of the guidance embedding, where it is said.
    pub(super) guidance_width: Option<usize>,
    /// Factor after the encoder.
    pub(super) encode_scale: f32,
    /// Divisor before the decoder.
    pub(super) decode_scale: f32,
    /// Pixels per latent unit.
    pub(super) latent_factor: u32,
    /// Sides must be a multiple of this many pixels.
    pub(super) size_multiple: u32,
    /// The schedule.
    pub(super) schedule: ScheduleFacts,
}

impl Folder {
    /// Reads the configuration and checks that every file is there.
    ///
    /// # Errors
    /// [`ModelError`] with what is missing, unreadable or of another kind.
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Err(ModelError::NoFolder { path: path.to_owned() });
        }
        refuse_other_kinds(path)?;
        let missing = missing(path);
        if !missing.is_empty() {
            return Err(ModelError::Missing { path: path.to_owned(), missing });
        }
        Self::configured(path)
    }

    /// Reads the configuration files; those that are not there leave the model family's usual values.
    ///
    /// # Errors
    /// [`ModelError`] with the file that is wrong or the setting that the engine does not have.
    pub(super) fn configured(path: &Path) -> Result<Self, ModelError> {
        let text: config::Text = config::read(&path.join("text_encoder/config.json"))?;
        let unet: config::Unet = config::read(&path.join("unet/config.json"))?;
        let encoder: config::Vae = config::read(&path.join("vae_encoder/config.json"))?;
        let decoder: config::Vae = config::read(&path.join("vae_decoder/config.json"))?;
        let scheduler: config::Scheduler = config::read(&path.join("scheduler/scheduler_config.json"))?;
        let unfit = |part, why: String| Err(ModelError::Unfit { part, why });
        if let Some(channels) = unet.in_channels.filter(|channels| *channels != signature::CHANNELS) {
            return unfit("unet", format!("in_channels is {channels}, not 4"));
        }
        for (part, vae) in [("vae_encoder", &encoder), ("vae_decoder", &decoder)] {
            if let Some(shift) = vae.shift_factor.filter(|shift| *shift != 0.0) {
                return unfit(part, format!("shift_factor is {shift}, and the engine does not have it"));
            }
            if !(vae.scaling().is_finite() && vae.scaling() > 0.0) {
                return unfit(part, format!("scaling_factor is {}", vae.scaling()));
            }
        }
        if let (Some(text), Some(unet)) = (text.hidden_size, unet.cross_attention_dim)
            && text != unet
        {
            return unfit("unet", format!("it wants text of width {unet}, and the text encoder gives {text}"));
        }
        if let (Some(down), Some(up)) = (encoder.factor(), decoder.factor())
            && down != up
        {
            return unfit("vae_decoder", format!("it enlarges {up} times, and vae_encoder shrinks {down} times"));
        }
        let latent_factor = decoder.factor().or(encoder.factor()).unwrap_or(8);
        let unet_factor = config::halvings(unet.block_out_channels.as_ref()).unwrap_or(8);
        let Some(size_multiple) = latent_factor.checked_mul(unet_factor).filter(|size| *size <= 1024) else {
            return unfit("unet", format!("sides would have to be a multiple of {latent_factor}·{unet_factor}"));
        };
        let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            path: path.to_owned(),
            name: name.unwrap_or_else(|| "model".to_owned()),
            prompt_tokens: text.max_position_embeddings.unwrap_or(77),
            text_width: text.hidden_size,
            unet_text_width: unet.cross_attention_dim,
            guidance_width: unet.time_cond_proj_dim,
            encode_scale: encoder.scaling(),
            decode_scale: decoder.scaling(),
            latent_factor,
            size_multiple,
            schedule: scheduler.facts()?,
        })
    }

    /// The graph of a part.
    pub(super) fn graph(&self, part: &str) -> PathBuf {
        self.path.join(part).join("model.onnx")
    }

    /// The facts that the other rooms plan with. The width of the guidance and how timesteps enter are what the UNet declares.
    pub(super) fn facts(
        &self,
        (guidance, timesteps): (Option<usize>, Timesteps),
        max_batch: usize,
        device: String,
    ) -> ModelFacts {
        ModelFacts {
            name: self.name.clone(),
            size_multiple: self.size_multiple,
            guidance_width: guidance,
            prompt_tokens: self.prompt_tokens,
            latent_channels: signature::CHANNELS,
            latent_factor: self.latent_factor,
            max_batch,
            timesteps,
            schedule: self.schedule.clone(),
            safety_checker: checker::has_safety_checker(&self.path),
            device,
        }
    }
}

/// Files that a model needs and a folder lacks, relative to it.
pub(super) fn missing(path: &Path) -> Vec<String> {
    let graphs = PARTS.map(|part| format!("{part}/model.onnx"));
    let mut names = graphs.to_vec();
    names.push("scheduler/scheduler_config.json".to_owned());
    // Newer tools write tokenizer.json alone.
    if !path.join("tokenizer/tokenizer.json").is_file() {
        names.extend(["tokenizer/vocab.json", "tokenizer/merges.txt"].map(String::from));
    }
    names.retain(|name| !path.join(name).is_file());
    names
}

/// Refuses folders of other tools and families before anything is called missing.
pub(super) fn refuse_other_kinds(path: &Path) -> Result<(), ModelError> {
    let kind = |why: &str| Err(ModelError::Kind { path: path.to_owned(), why: why.to_owned() });
    let index: config::Index = config::read(&path.join("model_index.json"))?;
    let class = index.class.unwrap_or_default();
    if class.contains("XL") || path.join("text_encoder_2").is_dir() {
        return kind("holds an SDXL model, and the engine runs models of the Stable Diffusion 1.5 family");
    }
    let has = |part: &str, ends: &str| {
        let files = std::fs::read_dir(path.join(part)).into_iter().flatten().flatten();
        files.map(|file| file.file_name()).any(|name| name.to_string_lossy().ends_with(ends))
    };
    if PARTS.iter().any(|part| path.join(part).join("model.onnx").is_file()) {
        return Ok(());
    }
    let mut variants: Vec<String> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join(manifest::NAME).is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if !variants.is_empty() {
        variants.sort();
        return kind(&format!("holds the variants {}: name one of these folders", variants.join(", ")));
    }
    if has("unet", ".xml") || has("", "openvino_model.xml") {
        return kind(
            "holds an OpenVINO model; convert what it was made from with \
             `python models/tools/convert.py FOLDER --out MODEL`",
        );
    }
    if [".safetensors", ".bin"].iter().any(|ends| has("unet", ends)) {
        return kind(
            "holds torch weights without ONNX graphs; convert them with \
             `python models/tools/convert.py FOLDER --out MODEL`",
        );
    }
    Ok(())
}
