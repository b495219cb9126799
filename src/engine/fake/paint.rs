//! The arithmetic of the fake: latents that a schedule can run over, and pictures that show what went in.

use crate::engine::{Picture, TokenIds};

use super::tokenizer::hash;

/// Latents of one row in host memory.
pub(super) struct Canvas {
    /// `[channels, height, width]`, what the schedule works on.
    pub(super) values: Vec<f32>,
    /// What the picture was, of the same shape.
    pub(super) clean: Vec<f32>,
}

/// A prompt as a colour in `-1..1`, one value a channel.
pub(super) fn tint(tokens: &TokenIds, channels: usize) -> Vec<f32> {
    let hash = hash(tokens.iter().flat_map(|id| id.to_le_bytes()));
    (0..channels).map(|channel| (hash.rotate_right(16 * channel as u32) as u16) as f32 / 32_767.5 - 1.0).collect()
}

/// Shrinks a picture to latents in `-1..1`: the means of red, green, blue, and of all three.
pub(super) fn shrink(picture: &Picture, factor: u32, channels: usize) -> Vec<f32> {
    let (width, factor) = (picture.width() as usize, factor as usize);
    let (wide, high) = (width / factor, picture.height() as usize / factor);
    let mut sums = vec![0_u32; 3 * wide * high];
    for (index, pixel) in picture.rgb().chunks_exact(3).enumerate() {
        let place = index / width / factor * wide + index % width / factor;
        for (channel, value) in pixel.iter().enumerate() {
            sums[channel * wide * high + place] += u32::from(*value);
        }
    }
    let scale = 1.0 / (factor * factor) as f32 / 127.5;
    let mean = |channel: usize, place: usize| sums[channel * wide * high + place] as f32 * scale - 1.0;
    let all = |place: usize| (mean(0, place) + mean(1, place) + mean(2, place)) / 3.0;
    (0..channels)
        .flat_map(|channel| (0..wide * high).map(move |place| (channel, place)))
        .map(|(channel, place)| if channel < 3 { mean(channel, place) } else { all(place) })
        .collect()
}

/// The clean latents that the fake predicts: mostly the picture, tinted by the prompt as far as guidance says, with a trace of
/// the noise, so that seeds and timesteps show.
pub(super) fn predict(canvas: &Canvas, tint: &[f32], guidance: &[f32], timestep: u32) -> Vec<f32> {
    let places = canvas.values.len() / tint.len().max(1);
    let pull = if guidance.is_empty() { 0.0 } else { guidance.iter().sum::<f32>() / guidance.len() as f32 };
    let pull = 0.25 + 0.1 * pull.tanh();
    let trace = 0.05 + 0.1 * timestep as f32 / 1000.0;
    let value = |(index, noisy): (usize, &f32)| {
        let kept = (1.0 - pull - trace) * canvas.clean[index];
        kept + pull * tint[index / places.max(1)] + trace * noisy.tanh()
    };
    canvas.values.iter().enumerate().map(value).collect()
}

/// The mean level of a picture.
pub(super) fn mean(picture: &Picture) -> u8 {
    let sum: u64 = picture.rgb().iter().map(|level| u64::from(*level)).sum();
    u8::try_from(sum / picture.rgb().len() as u64).unwrap_or(u8::MAX)
}

/// Grows latents to a picture: red, green and blue of the first three channels.
pub(super) fn grow(values: &[f32], width: u32, height: u32, factor: u32) -> Option<Picture> {
    let (wide, high) = (width as usize, height as usize);
    let factor_px = factor as usize;
    let mut rgb = Vec::with_capacity(3 * wide * high * factor_px * factor_px);
    for y in 0..high * factor_px {
        for x in 0..wide * factor_px {
            let place = y / factor_px * wide + x / factor_px;
            for channel in 0..3 {
                // A model with fewer than three channels leaves the others grey.
                let index = channel * wide * high + place;
                let value = values.get(index).copied().unwrap_or_default();
                rgb.push((value * 127.5 + 128.0) as u8);
            }
        }
    }
    Picture::new(width * factor, height * factor, rgb)
}
