//! The configuration files of a model folder, as far as the engine reads them.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::{Prediction, ScheduleFacts};
use super::ModelError;

/// `model_index.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Index {
    /// The pipeline's class.
    #[serde(rename = "_class_name")]
    pub(super) class: Option<String>,
}

/// `text_encoder/config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Text {
    /// Width of the embedding.
    pub(super) hidden_size: Option<usize>,
    /// Tokens a prompt is padded to.
    pub(super) max_position_embeddings: Option<usize>,
}

/// `unet/config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Unet {
    /// Width of the guidance embedding.
    pub(super) time_cond_proj_dim: Option<usize>,
    /// Width of the text embedding.
    pub(super) cross_attention_dim: Option<usize>,
    /// Latent channels.
    pub(super) in_channels: Option<usize>,
    /// One width a level; each level after the first halves the sides.
    pub(super) block_out_channels: Option<Vec<u32>>,
}

/// `vae_encoder/config.json` and `vae_decoder/config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Vae {
    /// The autoencoder's class.
    #[serde(rename = "_class_name")]
    pub(super) class: Option<String>,
    /// Factor from the encoder's latents to the UNet's.
    pub(super) scaling_factor: Option<f32>,
    /// Offset of newer families.
    pub(super) shift_factor: Option<f32>,
    /// One width a level.
    pub(super) block_out_channels: Option<Vec<u32>>,
    /// The same, as the distilled autoencoder calls it.
    pub(super) encoder_block_out_channels: Option<Vec<u32>>,
}

impl Vae {
    /// Factor from the encoder's latents to the UNet's; old exports do not say it.
    pub(super) fn scaling(&self) -> f32 {
        let tiny = self.class.as_deref() == Some("AutoencoderTiny");
        self.scaling_factor.unwrap_or(if tiny { 1.0 } else { 0.182_15 })
    }

    /// Pixels per latent unit, where the levels are listed.
    pub(super) fn factor(&self) -> Option<u32> {
        halvings(self.block_out_channels.as_ref().or(self.encoder_block_out_channels.as_ref()))
    }
}

/// How much smaller the last of several levels is: 2 to the number of levels after the first.
pub(super) fn halvings(levels: Option<&Vec<u32>>) -> Option<u32> {
    let after = u32::try_from(levels?.len()).ok()?.checked_sub(1)?;
    1u32.checked_shl(after)
}

/// `scheduler/scheduler_config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scheduler {
    num_train_timesteps: Option<u32>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<serde_json::Value>,
    original_inference_steps: Option<u32>,
    timestep_scaling: Option<f64>,
    prediction_type: Option<String>,
    clip_sample: bool,
    thresholding: bool,
    rescale_betas_zero_snr: bool,
}

impl Scheduler {
    /// The schedule, where the engine has it. What is not said has the reference's default for consistency models.
    ///
    /// # Errors
    /// [`ModelError::Unfit`] naming the setting that the engine does not have.
    pub(super) fn facts(&self) -> Result<ScheduleFacts, ModelError> {
        let unfit = |why: String| Err(ModelError::Unfit { part: "scheduler", why });
        let switches = [
            ("clip_sample", self.clip_sample),
            ("thresholding", self.thresholding),
            ("rescale_betas_zero_snr", self.rescale_betas_zero_snr),
            ("trained_betas", self.trained_betas.as_ref().is_some_and(|betas| !betas.is_null())),
        ];
        if let Some((name, _)) = switches.iter().find(|(_, on)| *on) {
            return unfit(format!("{name} is set, and the engine does not have it"));
        }
        if let Some(other) = self.beta_schedule.as_deref().filter(|name| *name != "scaled_linear") {
            return unfit(format!("beta_schedule is {other}, not scaled_linear"));
        }
        let prediction = match self.prediction_type.as_deref() {
            None | Some("epsilon") => Prediction::Epsilon,
            Some("v_prediction") => Prediction::Velocity,
            Some("sample") => Prediction::Sample,
            Some(other) => {
                return unfit(format!("prediction_type is {other}, not epsilon, v_prediction or sample"));
            }
        };
        let usual = ScheduleFacts::default();
        let facts = ScheduleFacts {
            train_timesteps: self.num_train_timesteps.unwrap_or(usual.train_timesteps),
            beta_start: self.beta_start.unwrap_or(usual.beta_start),
            beta_end: self.beta_end.unwrap_or(usual.beta_end),
            original_steps: self.original_inference_steps.unwrap_or(usual.original_steps),
            timestep_scaling: self.timestep_scaling.unwrap_or(usual.timestep_scaling),
            prediction,
        };
        if facts.original_steps == 0 || facts.original_steps > facts.train_timesteps {
            let (steps, all) = (facts.original_steps, facts.train_timesteps);
            return unfit(format!("original_inference_steps is {steps}, not within 1 to {all}"));
        }
        if !(0.0 < facts.beta_start && facts.beta_start <= facts.beta_end && facts.beta_end < 1.0) {
            return unfit(format!("beta_start {} and beta_end {} are no schedule", facts.beta_start, facts.beta_end));
        }
        Ok(facts)
    }
}

/// Reads a configuration file; a file that is not there says nothing.
///
/// # Errors
/// [`ModelError::Read`] and [`ModelError::Json`] with the file's path.
pub(super) fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ModelError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|cause| ModelError::Json { path: path.to_owned(), cause }),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(T::default()),
        Err(cause) => Err(ModelError::Read { path: path.to_owned(), cause }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(json: &str) -> Result<ScheduleFacts, String> {
        let scheduler: Scheduler = serde_json::from_str(json).unwrap();
        scheduler.facts().map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_schedule_does_not_say_is_the_usual() {
        assert_eq!(facts("{}").unwrap(), ScheduleFacts::default());
        let velocity = facts(r#"{"prediction_type": "v_prediction", "trained_betas": null}"#).unwrap();
        assert_eq!(velocity.prediction, Prediction::Velocity);
    }

    #[test]
    fn schedules_that_the_engine_lacks_are_refused_by_name() {
        for (json, name) in [
            (r#"{"beta_schedule": "linear"}"#, "beta_schedule is linear"),
            (r#"{"prediction_type": "flow"}"#, "prediction_type is flow"),
            (r#"{"clip_sample": true}"#, "clip_sample"),
            (r#"{"thresholding": true}"#, "thresholding"),
            (r#"{"rescale_betas_zero_snr": true}"#, "rescale_betas_zero_snr"),
            (r#"{"trained_betas": [0.1]}"#, "trained_betas"),
            (r#"{"original_inference_steps": 0}"#, "original_inference_steps is 0"),
            (r#"{"beta_end": 2.0}"#, "beta_end 2"),
        ] {
            let error = facts(json).unwrap_err();
            assert!(error.starts_with("scheduler cannot serve: ") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn an_old_export_has_the_usual_scaling_factor() {
        let vae: Vae = serde_json::from_str("{}").unwrap();
        assert_eq!((vae.scaling(), vae.factor()), (0.182_15, None));
        let tiny = r#"{"_class_name": "AutoencoderTiny", "encoder_block_out_channels": [64, 64, 64, 64]}"#;
        let tiny: Vae = serde_json::from_str(tiny).unwrap();
        assert_eq!((tiny.scaling(), tiny.factor()), (1.0, Some(8)));
    }
}
