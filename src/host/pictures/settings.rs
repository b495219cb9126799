//! How pictures are read, fitted and written.

use std::num::{NonZeroU8, NonZeroU32, NonZeroU64, NonZeroUsize};

use serde::{Deserialize, Serialize};

use crate::wire::PictureFormat;

/// How pictures are read, fitted and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PictureSettings {
    /// Largest encoded input picture, in bytes.
    pub max_input_bytes: NonZeroU64,
    /// Largest input picture, in pixels. It is read from the header, before memory is spent.
    pub max_input_pixels: NonZeroU64,
    /// Shortest side that the model works on, in pixels: smaller pictures are enlarged first.
    pub min_working_side: NonZeroU32,
    /// Longest side that the model works on, in pixels: larger pictures are reduced first.
    pub max_working_side: NonZeroU32,
    /// Largest area that the model works on, in pixels. It rules where it and the shortest side disagree.
    pub max_working_pixels: NonZeroU64,
    /// Longest side of an answer, in pixels. Answers have the size of their input, up to this.
    pub max_output_side: NonZeroU32,
    /// Encoding of answers where the caller names none: "jpeg" or "png".
    pub format: PictureFormat,
    /// JPEG quality of answers, 1 to 100.
    pub jpeg_quality: NonZeroU8,
    /// JPEG colour resolution of answers: "half" (4:2:0, smaller and faster) or "full" (4:4:4).
    pub jpeg_chroma: Chroma,
    /// Pictures that are decoded or encoded at the same time.
    pub workers: NonZeroUsize,
    /// Pictures that may wait for a worker. More are refused with 429.
    pub waiting: usize,
}

/// Colour resolution of a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Chroma {
    /// 4:2:0, one colour sample for four pixels.
    Half,
    /// 4:4:4, one colour sample a pixel.
    Full,
}

const fn side(pixels: u32) -> NonZeroU32 {
    NonZeroU32::new(pixels).expect("not zero")
}

const fn many(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).expect("not zero")
}

impl Default for PictureSettings {
    fn default() -> Self {
        Self {
            max_input_bytes: many(50 * 1024 * 1024),
            max_input_pixels: many(24_000_000),
            min_working_side: side(256),
            max_working_side: side(1024),
            max_working_pixels: many(768 * 768),
            max_output_side: side(2048),
            format: PictureFormat::Jpeg,
            jpeg_quality: NonZeroU8::new(95).expect("not zero"),
            jpeg_chroma: Chroma::Half,
            workers: NonZeroUsize::new(2).expect("not zero"),
            waiting: 64,
        }
    }
}

impl PictureSettings {
    /// What is wrong with the values, each with its key inside this table.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, what: String| faults.push((key.to_owned(), what));
        if self.jpeg_quality.get() > 100 {
            fault("jpeg_quality", format!("{} is more than 100", self.jpeg_quality));
        }
        if self.max_working_side.get() < 64 {
            fault(
                "max_working_side",
                format!("{} is less than 64, the smallest side of a model", self.max_working_side),
            );
        }
        if self.max_working_pixels.get() < 64 * 64 {
            fault("max_working_pixels", format!("{} is less than 4096, 64 by 64", self.max_working_pixels));
        }
        if self.min_working_side > self.max_working_side {
            let more = format!("{} is more than max_working_side, {}", self.min_working_side, self.max_working_side);
            fault("min_working_side", more);
        }
        if self.max_output_side.get() > 65_535 {
            fault("max_output_side", format!("{} is more than a JPEG holds, 65535", self.max_output_side));
        }
        faults
    }
}
