//! Whether a picture is worth rendering again: a small grey copy of it, compared with that of the last one.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::engine::Picture;
use crate::wire::LcmInput;

/// Cells along each side of the small copy.
const CELLS: usize = 24;
/// Pixels looked at along each side of a cell, at most.
const PROBES: usize = 6;

/// What an input looked like.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Everything but the picture.
    settings: u64,
    size: (u32, u32),
    cells: Box<[u8; CELLS * CELLS]>,
}

impl Look {
    /// Looks at a picture.
    pub(super) fn of(picture: &Picture, settings: u64) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let rgb = picture.rgb();
        let mut cells = Box::new([0; CELLS * CELLS]);
        for (at, cell) in cells.iter_mut().enumerate() {
            let (left, top) = (at % CELLS * width / CELLS, at / CELLS * height / CELLS);
            let (across, down) = ((width / CELLS).max(1), (height / CELLS).max(1));
            let (step_x, step_y) = (across.div_ceil(PROBES), down.div_ceil(PROBES));
            let (mut sum, mut count) = (0_u32, 0_u32);
            for y in (top..(top + down).min(height)).step_by(step_y) {
                for x in (left..(left + across).min(width)).step_by(step_x) {
                    let pixel = &rgb[(y * width + x) * 3..][..3];
                    // The weights of Rec. 601, in 256ths.
                    sum += (77 * u32::from(pixel[0]) + 150 * u32::from(pixel[1]) + 29 * u32::from(pixel[2])) >> 8;
                    count += 1;
                }
            }
            *cell = (sum / count.max(1)) as u8;
        }
        Self { settings, size: (picture.width(), picture.height()), cells }
    }

    /// Whether the two differ by less than `threshold` on average, `0..=1` of the whole range, with all else equal.
    pub(super) fn is_like(&self, other: &Self, threshold: f32) -> bool {
        if self.settings != other.settings || self.size != other.size {
            return false;
        }
        let pairs = self.cells.iter().zip(other.cells.iter());
        let sum: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        (sum as f32) < threshold * 255.0 * (CELLS * CELLS) as f32
    }
}

/// Everything of an input but its picture and its name, as one number.
pub(super) fn settings_of(input: &LcmInput) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&input.prompt, &input.negative_prompt, input.num_inference_steps, input.num_images).hash(&mut hasher);
    (input.strength.to_bits(), input.guidance_scale.to_bits()).hash(&mut hasher);
    input.seed.as_ref().map(crate::wire::Seed::bits).hash(&mut hasher);
    input.format.map(crate::wire::PictureFormat::content_type).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, shade: impl Fn(u32, u32) -> u8) -> Picture {
        let rgb =
            (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| [shade(x, y); 3]).collect();
        Picture::new(width, height, rgb).unwrap()
    }

    #[test]
    fn noise_is_similar_and_a_stroke_is_not() {
        let plain = Look::of(&picture(512, 512, |_, _| 200), 1);
        let noisy = Look::of(&picture(512, 512, |x, y| 199 + ((x * 7 + y * 13) % 3) as u8), 1);
        let stroke = Look::of(&picture(512, 512, |x, y| if x.abs_diff(y) < 12 { 0 } else { 200 }), 1);
        assert!(noisy.is_like(&plain, 0.01));
        assert!(!stroke.is_like(&plain, 0.01));
        assert!(!plain.is_like(&plain, 0.0), "a threshold of zero renders all");
    }

    #[test]
    fn other_settings_or_another_size_are_another_picture() {
        let look = |size, settings| Look::of(&picture(size, size, |_, _| 9), settings);
        assert!(look(64, 1).is_like(&look(64, 1), 0.5));
        assert!(!look(64, 1).is_like(&look(64, 2), 0.5));
        assert!(!look(64, 1).is_like(&look(128, 1), 0.5));
    }

    #[test]
    fn pictures_smaller_than_the_copy_are_looked_at_too() {
        let dark = Look::of(&picture(3, 5, |_, _| 0), 1);
        let bright = Look::of(&picture(3, 5, |_, _| 255), 1);
        assert!(!dark.is_like(&bright, 0.9) && dark.is_like(&dark, 0.01));
    }
}
