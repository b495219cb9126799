//! Why there is no picture.

use crate::wire::{FieldError, Problem, ToProblem};

/// Why bytes are no picture that can be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// There is not a byte.
    #[error("it is empty")]
    Empty,
    /// A data URI without a comma, or text that is neither URL nor base64.
    #[error("it is neither an http(s) URL nor a data URI")]
    NoUri,
    /// Base64 that is none.
    #[error("its base64 is broken")]
    Base64,
    /// More encoded bytes than are taken.
    #[error("it is larger than {limit} bytes")]
    TooManyBytes {
        /// The limit, in bytes.
        limit: u64,
    },
    /// More pixels than are taken.
    #[error("it has {width}x{height} pixels, more than {limit}")]
    TooManyPixels {
        /// Width that the header tells.
        width: u32,
        /// Height that the header tells.
        height: u32,
        /// The limit, in pixels.
        limit: u64,
    },
    /// No encoding that is known here.
    #[error("it is no JPEG, PNG, WebP or GIF")]
    UnknownFormat,
    /// The decoder gave up.
    #[error("it is a broken {format}")]
    Broken {
        /// What it seemed to be: `JPEG`, `PNG`, `WebP` or `GIF`.
        format: &'static str,
        /// What the decoder said.
        #[source]
        cause: std::sync::Arc<image::ImageError>,
    },
}

impl PictureError {
    /// The 422 that names the field and shows `shown` for the picture.
    #[must_use]
    pub fn at(&self, field: &str, shown: &str) -> Problem {
        let kind = match self {
            Self::TooManyBytes { .. } => "file_too_large",
            Self::TooManyPixels { .. } => "image_too_large",
            Self::Empty | Self::NoUri | Self::Base64 | Self::UnknownFormat | Self::Broken { .. } => "image_load_error",
        };
        Problem::invalid(vec![FieldError::at(field, kind, format!("Could not load image from url: {shown} ({self})"))])
    }
}

impl ToProblem for PictureError {
    fn to_problem(&self) -> Problem {
        self.at("image_url", "the input picture")
    }
}
