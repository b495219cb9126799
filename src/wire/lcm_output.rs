//! Output of the LCM image-to-image app (protocol spec 11.2).

use serde::Serialize;
use serde_json::Number;

/// A finished run, as clients read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LcmOutput {
    /// One entry a picture.
    pub images: Vec<OutputImage>,
    /// Where the time went.
    pub timings: RunTimings,
    /// Seed of the first picture.
    pub seed: Number,
    /// Steps that ran.
    pub num_inference_steps: u32,
    /// The input's `request_id`, `""` without one.
    pub request_id: String,
    /// One flag a picture: the safety checker flagged it, and it is black. False where nobody checked.
    pub nsfw_content_detected: Vec<bool>,
    /// The same list under the name that pages of the fast-* apps read.
    pub has_nsfw_concepts: Vec<bool>,
    /// What the run lacks of what was asked for, on sockets; requests are told in a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<&'static str>,
}

/// A picture of an output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutputImage {
    /// A data URI, or an absolute http(s) URL.
    pub url: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Media type.
    pub content_type: &'static str,
    /// Name of the stored file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Size of the encoded picture, in bytes.
    pub file_size: usize,
}

/// Where a run's time went, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RunTimings {
    /// Device time: text and picture encoding, all steps, decoding.
    pub inference: f64,
    /// Loading, decoding and fitting the input picture.
    pub decode: f64,
    /// Waiting for the device.
    pub queue: f64,
    /// Scaling and encoding the answer's pictures.
    pub encode: f64,
    /// From the request's head to its answer.
    pub total: f64,
}
