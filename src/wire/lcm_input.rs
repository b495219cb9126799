//! Input of the LCM image-to-image app (protocol spec 11.1), read with pydantic's lenience.

use bytes::Bytes;
use serde_json::{Map, Number, Value, json};

use super::FieldError;
use super::lenient::LaxObject;

/// Longest prompt, in characters: a hundred times what CLIP reads. What a job keeps of its body is small.
const LONGEST_PROMPT: usize = 10_000;
/// Longest `request_id`, in characters.
const LONGEST_ID: usize = 1000;

/// A validated input.
///
/// Unknown fields are ignored, null is the default of every optional field, and all faults are reported together.
#[derive(Clone, PartialEq)]
pub struct LcmInput {
    /// What to draw.
    pub prompt: String,
    /// What not to draw. The model has no use for it without classifier-free guidance; it is taken and dropped.
    pub negative_prompt: String,
    /// The picture to start from.
    pub image: ImageSource,
    /// How far from it, `0..=1`.
    pub strength: f64,
    /// Seed of the first picture, `None` for a random one.
    pub seed: Option<Seed>,
    /// Guidance scale, `0..=16`.
    pub guidance_scale: f64,
    /// Steps, `1..=12`.
    pub num_inference_steps: u32,
    /// Pictures, `1..=8`.
    pub num_images: u32,
    /// Whether pictures come back inline, as data URIs.
    pub sync_mode: bool,
    /// Whether the caller wants his pictures checked; whoever says nothing does.
    pub enable_safety_checks: bool,
    /// Echoed.
    pub request_id: String,
    /// Encoding of the answer, where the caller names one.
    pub format: Option<PictureFormat>,
}

/// Shows numbers only: prompts are nobody's business in a log.
impl std::fmt::Debug for LcmInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LcmInput")
            .field("prompt_bytes", &self.prompt.len())
            .field("image", &self.image)
            .field("strength", &self.strength)
            .field("num_inference_steps", &self.num_inference_steps)
            .field("num_images", &self.num_images)
            .field("sync_mode", &self.sync_mode)
            .finish_non_exhaustive()
    }
}

/// Where the input picture is.
#[derive(Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// `image_url`: an http(s) URL or a data URI, as written.
    Url(String),
    /// `image_bytes`: the encoded picture itself, as binary sockets send it.
    Bytes(Bytes),
}

impl ImageSource {
    /// The field that the caller used.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Url(_) => "image_url",
            Self::Bytes(_) => "image_bytes",
        }
    }
}

/// Shows sizes only: a data URI is a picture, and a URL may hold a signature.
impl std::fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Url({} bytes)", url.len()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// An encoding of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PictureFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl PictureFormat {
    /// The media type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    /// The ending of a file name, without a dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
        }
    }
}

/// A seed, of any size: echoed as it came, used by its lowest 64 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Seed {
    shown: Number,
    bits: u64,
}

impl Seed {
    /// As the output shows it.
    #[must_use]
    pub const fn shown(&self) -> &Number {
        &self.shown
    }

    /// As the engine uses it.
    #[must_use]
    pub const fn bits(&self) -> u64 {
        self.bits
    }
}

impl From<u64> for Seed {
    fn from(bits: u64) -> Self {
        Self { shown: bits.into(), bits }
    }
}

impl LcmInput {
    /// Reads the fields of an input.
    ///
    /// - `binary`: `image_bytes` where the transport carries binary values. In plain JSON the field is base64 text.
    ///
    /// # Errors
    /// Every fault of every field, in the order of the schema, as pydantic v2 words them.
    pub fn from_fields(fields: Map<String, Value>, binary: Option<Bytes>) -> Result<Self, Vec<FieldError>> {
        let mut lax = LaxObject::new(fields);
        let prompt = lax.required_string("prompt");
        let prompt = lax.no_longer("prompt", prompt, LONGEST_PROMPT);
        let image = image_source(&mut lax, binary);
        let strength = lax.float_within("strength", 0.0, 1.0);
        let negative_prompt = lax.string("negative_prompt");
        let negative_prompt = lax.no_longer("negative_prompt", negative_prompt, LONGEST_PROMPT);
        let seed = lax.integer("seed").map(|number| Seed { shown: number.shown, bits: number.low_bits });
        let guidance_scale = lax.float_within("guidance_scale", 0.0, 16.0);
        let num_inference_steps = lax.integer_within("num_inference_steps", 1, 12);
        let num_images = lax.integer_within("num_images", 1, 8);
        let sync_mode = lax.boolean("sync_mode");
        // The fast-* apps call the same switch `enable_safety_checker`, and pages mix the two.
        let other_name = lax.boolean("enable_safety_checker");
        let enable_safety_checks = lax.boolean("enable_safety_checks").or(other_name);
        let request_id = lax.string("request_id");
        let request_id = lax.no_longer("request_id", request_id, LONGEST_ID);
        let format = format(&mut lax);
        refuse_mask(&mut lax);
        match (prompt, image, lax.into_faults()) {
            (Some(prompt), Some(image), faults) if faults.is_empty() => Ok(Self {
                prompt,
                negative_prompt: negative_prompt.unwrap_or_default(),
                image,
                strength: strength.unwrap_or(0.8),
                seed,
                guidance_scale: guidance_scale.unwrap_or(1.0),
                num_inference_steps: num_inference_steps.unwrap_or(4),
                num_images: num_images.unwrap_or(1),
                sync_mode: sync_mode.unwrap_or(false),
                enable_safety_checks: enable_safety_checks.unwrap_or(true),
                request_id: request_id.unwrap_or_default(),
                format,
            }),
            (_, _, faults) => Err(faults),
        }
    }
}

fn image_source(lax: &mut LaxObject, binary: Option<Bytes>) -> Option<ImageSource> {
    let text = lax.take("image_bytes");
    if let Some(bytes) = binary.filter(|bytes| !bytes.is_empty()) {
        return Some(ImageSource::Bytes(bytes));
    }
    match text {
        // Base64 without a data URI around it; the loader of URLs reads that too.
        Some(Value::String(base64)) if !base64.is_empty() => Some(ImageSource::Url(base64)),
        Some(Value::String(_)) | None => lax.required_string("image_url").map(ImageSource::Url),
        Some(_) => {
            lax.fault(FieldError::at("image_bytes", "bytes_type", "Input should be a valid bytes"));
            None
        }
    }
}

fn format(lax: &mut LaxObject) -> Option<PictureFormat> {
    match lax.take("format")? {
        Value::String(word) if word.eq_ignore_ascii_case("jpeg") || word.eq_ignore_ascii_case("jpg") => {
            Some(PictureFormat::Jpeg)
        }
        Value::String(word) if word.eq_ignore_ascii_case("png") => Some(PictureFormat::Png),
        _ => {
            let fault = FieldError::at("format", "literal_error", "Input should be 'jpeg' or 'png'");
            lax.fault(fault.with_ctx(json!({ "expected": "'jpeg' or 'png'" })));
            None
        }
    }
}

/// A mask is refused, not ignored: a page that sends one would get a picture that is wrong without a word.
fn refuse_mask(lax: &mut LaxObject) {
    let blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
    if lax.take("mask_url").is_some_and(|value| !blank(&value)) {
        let msg = "Masks are not supported, leave mask_url out";
        lax.fault(FieldError::at("mask_url", "feature_not_supported", msg));
    }
}
