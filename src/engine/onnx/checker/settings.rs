//! `feature_extractor/preprocessor_config.json`: how the checker's pictures are prepared.

use std::path::Path;

use serde::Deserialize;

use super::clip::Clip;
use crate::engine::onnx::{ModelError, config};

const PART: &str = "feature_extractor";
/// Pillow's number of the bicubic filter.
const BICUBIC: u32 = 3;
/// CLIP's largest picture encoders see 448 pixels.
const MOST_PX: u32 = 1024;

/// The file, as far as it matters. What it does not say is CLIP's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Preprocessor {
    size: Option<Length>,
    crop_size: Option<Length>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
}

/// A length, as old and new tools write it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Length {
    Plain(u32),
    Shortest { shortest_edge: u32 },
    Square { height: u32, width: u32 },
}

impl Length {
    /// The side of a square, or of a shorter side.
    fn side(self) -> Option<u32> {
        match self {
            Self::Plain(side) | Self::Shortest { shortest_edge: side } => Some(side),
            Self::Square { height, width } => (height == width).then_some(height),
        }
    }
}

/// Reads how pictures are prepared; a folder that does not say has CLIP's own way.
///
/// # Errors
/// [`ModelError`] naming the setting that the engine does not have.
pub(super) fn read(folder: &Path) -> Result<Clip, ModelError> {
    let file: Preprocessor = config::read(&folder.join(PART).join("preprocessor_config.json"))?;
    let usual = Clip::default();
    let unfit = |why: String| Err(ModelError::Unfit { part: PART, why });
    let steps = [
        ("do_resize", file.do_resize),
        ("do_center_crop", file.do_center_crop),
        ("do_rescale", file.do_rescale),
        ("do_normalize", file.do_normalize),
    ];
    if let Some((name, _)) = steps.iter().find(|(_, on)| *on == Some(false)) {
        return unfit(format!("{name} is false, and the engine does all that CLIP does"));
    }
    if let Some(other) = file.resample.filter(|filter| *filter != BICUBIC) {
        return unfit(format!("resample is {other}, not {BICUBIC}, the bicubic filter"));
    }
    if let Some(factor) = file.rescale_factor.filter(|factor| (factor * 255.0 - 1.0).abs() > 1e-6) {
        return unfit(format!("rescale_factor is {factor}, not 1/255"));
    }
    let side = |length: Option<Length>| length.map_or(Some(usual.side), Length::side);
    let side = match (side(file.size), side(file.crop_size)) {
        (Some(size), Some(crop)) if size == crop && (1..=MOST_PX).contains(&size) => size,
        _ => return unfit(format!("size is {:?} and crop_size is {:?}", file.size, file.crop_size)),
    };
    let (mean, std) = (file.image_mean.unwrap_or(usual.mean), file.image_std.unwrap_or(usual.std));
    if mean.iter().chain(&std).any(|value| !value.is_finite()) || std.iter().any(|value| *value <= 0.0) {
        return unfit(format!("image_mean is {mean:?} and image_std is {std:?}"));
    }
    Ok(Clip { side, mean, std })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(json: &str) -> Result<Clip, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(PART)).unwrap();
        std::fs::write(folder.path().join(PART).join("preprocessor_config.json"), json).unwrap();
        read(folder.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn old_and_new_files_and_none_at_all_mean_the_same() {
        let old = r#"{"crop_size": 224, "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224}"#;
        let new = r#"{"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}, "do_rescale": true,
            "rescale_factor": 0.00392156862745098}"#;
        for json in [old, new, "{}"] {
            assert_eq!(with(json).unwrap(), Clip::default());
        }
        assert_eq!(read(Path::new("no such folder")).unwrap(), Clip::default());
    }

    #[test]
    fn what_the_engine_does_not_do_is_refused_by_name() {
        for (json, name) in [
            (r#"{"do_center_crop": false}"#, "do_center_crop is false"),
            (r#"{"resample": 2}"#, "resample is 2"),
            (r#"{"rescale_factor": 1.0}"#, "rescale_factor is 1"),
            (r#"{"size": 336}"#, "size is Some(Plain(336))"),
            (r#"{"size": 0, "crop_size": 0}"#, "size is Some(Plain(0))"),
            (r#"{"crop_size": {"height": 224, "width": 200}}"#, "crop_size is Some(Square"),
            (r#"{"image_std": [0.1, 0, 0.1]}"#, "image_std is [0.1, 0.0, 0.1]"),
        ] {
            let error = with(json).unwrap_err();
            assert!(error.starts_with("feature_extractor cannot serve: ") && error.contains(name), "{error}");
        }
    }
}
