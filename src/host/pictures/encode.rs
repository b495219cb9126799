//! An RGB picture to encoded bytes.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::{Chroma, PictureSettings};
use crate::engine::Picture;
use crate::wire::PictureFormat;

/// An encoded picture.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The encoding.
    pub format: PictureFormat,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Encoded {
    /// The picture as a data URI.
    #[must_use]
    pub fn to_data_uri(&self) -> String {
        let mut uri = String::with_capacity(self.bytes.len() / 3 * 4 + 32);
        uri.push_str("data:");
        uri.push_str(self.format.content_type());
        uri.push_str(";base64,");
        base64_simd::STANDARD.encode_append(&self.bytes, &mut uri);
        uri
    }
}

/// Shows the size only.
impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoded({}x{} {:?}, {} bytes)", self.width, self.height, self.format, self.bytes.len())
    }
}

/// Encodes a picture. Blocks: call it in the [`super::PicturePool`].
///
/// Neither side may be over 65535 pixels; `max_output_side` sees to it.
#[must_use]
pub fn encode(picture: &Picture, format: PictureFormat, settings: &PictureSettings) -> Encoded {
    let (width, height) = (picture.width(), picture.height());
    let bytes = match format {
        PictureFormat::Jpeg => jpeg(picture, settings),
        PictureFormat::Png => png(picture),
    };
    Encoded { width, height, format, bytes }
}

fn jpeg(picture: &Picture, settings: &PictureSettings) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(picture.rgb().len() / 6);
    let mut encoder = Encoder::new(&mut bytes, settings.jpeg_quality.get().min(100));
    encoder.set_sampling_factor(match settings.jpeg_chroma {
        Chroma::Half => SamplingFactor::R_4_2_0,
        Chroma::Full => SamplingFactor::R_4_4_4,
    });
    let side = |pixels: u32| u16::try_from(pixels).expect("outputs are bounded to 65535 pixels a side");
    encoder
        .encode(picture.rgb(), side(picture.width()), side(picture.height()), ColorType::Rgb)
        .expect("a picture holds exactly its pixels, and a Vec takes them all");
    bytes
}

fn png(picture: &Picture) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(picture.rgb().len());
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive)
        .write_image(picture.rgb(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .expect("a picture holds exactly its pixels, and a Vec takes them all");
    bytes
}
