//! Encoded bytes to an RGB picture.

use std::io::Cursor;
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::webp::largest_lossy_frame;
use super::{PictureError, PictureSettings};
use crate::engine::Picture;

/// Memory beside the pixels that a decoder may use, in bytes.
const DECODER_SCRATCH: u64 = 64 * 1024 * 1024;
/// 16 bits for each of four channels.
const WIDEST_PIXEL: u64 = 8;

/// Decodes a JPEG, PNG, WebP or GIF: first frame, upright by its EXIF orientation, transparency on white, 8 bits RGB.
///
/// The bytes tell what they are; no name or media type is believed. The size comes out of the header and is checked
/// before memory is spent. Blocks: call it in the [`super::PicturePool`].
///
/// # Errors
/// [`PictureError`] for anything else.
pub fn decode(bytes: &[u8], settings: &PictureSettings) -> Result<Picture, PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    let limit = settings.max_input_bytes.get();
    if bytes.len() as u64 > limit {
        return Err(PictureError::TooManyBytes { limit });
    }
    let format = image::guess_format(bytes).map_err(|_| PictureError::UnknownFormat)?;
    let name = match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        _ => return Err(PictureError::UnknownFormat),
    };
    let broken = |cause| PictureError::Broken { format: name, cause: Arc::new(cause) };
    check_early_header(bytes, format, settings)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(settings.max_input_pixels.get().saturating_mul(WIDEST_PIXEL) + DECODER_SCRATCH);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height, settings)?;
    if format == ImageFormat::WebP && largest_lossy_frame(bytes) > settings.max_input_pixels.get() {
        return Err(PictureError::TooManyPixels { width, height, limit: settings.max_input_pixels.get() });
    }
    // Broken metadata is no reason to refuse a picture that can be shown.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    Picture::new(width, height, on_white(picture)).ok_or(PictureError::Empty)
}

fn check_size(width: u32, height: u32, settings: &PictureSettings) -> Result<(), PictureError> {
    let limit = settings.max_input_pixels.get();
    if width == 0 || height == 0 {
        return Err(PictureError::Empty);
    }
    if u64::from(width) * u64::from(height) > limit {
        return Err(PictureError::TooManyPixels { width, height, limit });
    }
    Ok(())
}

/// PNG and GIF tell their size in the first bytes: what is too large needs no decoder at all.
fn check_early_header(bytes: &[u8], format: ImageFormat, settings: &PictureSettings) -> Result<(), PictureError> {
    let (width, height) = match (format, bytes) {
        (
            ImageFormat::Png,
            [_, _, _, _, _, _, _, _, _, _, _, _, b'I', b'H', b'D', b'R', a, b, c, d, e, f, g, h, ..],
        ) => (u32::from_be_bytes([*a, *b, *c, *d]), u32::from_be_bytes([*e, *f, *g, *h])),
        (ImageFormat::Gif, [_, _, _, _, _, _, a, b, c, d, ..]) => {
            (u32::from(u16::from_le_bytes([*a, *b])), u32::from(u16::from_le_bytes([*c, *d])))
        }
        _ => return Ok(()),
    };
    check_size(width, height, settings)
}

/// Drops transparency by laying the picture on white, as it looked on the page.
fn on_white(picture: DynamicImage) -> Vec<u8> {
    match picture {
        DynamicImage::ImageRgb8(rgb) => rgb.into_raw(),
        picture if !picture.color().has_alpha() => picture.into_rgb8().into_raw(),
        picture => {
            let rgba = picture.into_rgba8().into_raw();
            let mut rgb = Vec::with_capacity(rgba.len() / 4 * 3);
            for pixel in rgba.chunks_exact(4) {
                let alpha = u16::from(pixel[3]);
                for channel in &pixel[..3] {
                    let mixed = u16::from(*channel) * alpha + 255 * (255 - alpha);
                    rgb.push(((mixed + 127) / 255) as u8);
                }
            }
            rgb
        }
    }
}
