//! Pictures as a drawing page makes them: a canvas with a line on it, another at each stroke.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Rgb, RgbImage};

use super::error::LoadError;

/// One state of a canvas.
#[derive(Debug)]
pub(crate) struct Stroke {
    /// As a JPEG file.
    pub(crate) jpeg: Vec<u8>,
    /// As a data URI.
    pub(crate) data_uri: String,
}

/// A few states of a square canvas, to be sent in turn.
pub(crate) fn strokes(side: u32) -> Result<Vec<Stroke>, LoadError> {
    (0..8).map(|at| stroke(side, at)).collect()
}

fn stroke(side: u32, at: u32) -> Result<Stroke, LoadError> {
    let wave = |x: u32| (((x + 40 * at) as f32 / 50.0).sin() * side as f32 / 4.0) as i64 + i64::from(side) / 2;
    let canvas = RgbImage::from_fn(side, side, |x, y| {
        let is_line = (i64::from(y) - wave(x)).abs() < i64::from(side) / 32 + 1;
        if is_line { Rgb([20, 60, 160]) } else { Rgb([250, 245, 235]) }
    });
    let mut file = Cursor::new(Vec::new());
    canvas.write_to(&mut file, ImageFormat::Jpeg).map_err(|cause| LoadError::Setup(format!("no JPEG: {cause}")))?;
    let jpeg = file.into_inner();
    let data_uri = format!("data:image/jpeg;base64,{}", base64_simd::STANDARD.encode_to_string(&jpeg));
    Ok(Stroke { jpeg, data_uri })
}

/// Checks that a result is a picture of this size.
pub(crate) fn check(file: &[u8], side: u32) -> Result<(), LoadError> {
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format()?;
    let size = reader.into_dimensions().map_err(|cause| LoadError::Answer(format!("no picture: {cause}")))?;
    if size == (side, side) { Ok(()) } else { Err(LoadError::Answer(format!("a picture of {size:?}"))) }
}
