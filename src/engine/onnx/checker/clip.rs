//! A picture as CLIP's image processor prepares it: the shorter side to a length, the middle of it, and normal values.
//!
//! The filter is Pillow's bicubic one, to the last bit: for a picture that is made smaller it is as wide as the pixels that
//! it covers, so that nothing aliases. (Of pictures more than twice as high as wide recent versions of Pillow resize the height first,
//! older ones and this one never.)

use crate::engine::Picture;

/// Bits behind the point of a weight, as Pillow has them.
const POINT: u32 = 22;
/// What rounds a sum to the nearest.
const HALF: i32 = 1 << (POINT - 1);

/// How pictures are prepared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clip {
    /// The side of the square that the graph sees.
    pub(super) side: u32,
    /// What is taken from each channel, in `0..=1`.
    pub(super) mean: [f32; 3],
    /// What each channel is then divided by.
    pub(super) std: [f32; 3],
}

impl Default for Clip {
    /// CLIP's own, which every Stable Diffusion has.
    fn default() -> Self {
        Self {
            side: 224,
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
        }
    }
}

impl Clip {
    /// Appends a picture as three planes of `side` squared values.
    pub(super) fn planes(&self, picture: &Picture, out: &mut Vec<f32>) {
        let square = self.square(picture);
        for (channel, (mean, std)) in self.mean.iter().zip(&self.std).enumerate() {
            let level: [f32; 256] = std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
            out.extend(square.iter().skip(channel).step_by(3).map(|byte| level[usize::from(*byte)]));
        }
    }

    /// The middle of a picture whose shorter side was brought to `side`, `side · side · 3` bytes.
    fn square(&self, picture: &Picture) -> Vec<u8> {
        let side = self.side as usize;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let shorter = width.min(height);
        let (wide, high) = (side * width / shorter, side * height / shorter);
        // Only what is in the middle is computed.
        let columns = weights(width, wide, (wide - side) / 2, side);
        let rows = weights(height, high, (high - side) / 2, side);
        let top = rows.iter().map(|row| row.first).min().unwrap_or(0);
        let bottom = rows.iter().map(|row| row.first + row.weights.len()).max().unwrap_or(0);
        let mut narrow = Vec::with_capacity((bottom - top) * side * 3);
        for line in picture.rgb().chunks_exact(width * 3).take(bottom).skip(top) {
            narrow.extend(columns.iter().flat_map(|column| column.pixel(line)));
        }
        let (mut sums, mut square) = (vec![0; side * 3], Vec::with_capacity(side * side * 3));
        for row in &rows {
            row.line(narrow.chunks_exact(side * 3).skip(row.first - top), &mut sums);
            square.extend(sums.iter().map(|sum| level(*sum)));
        }
        square
    }
}

/// Which pixels of a line make up one, and how much of each.
struct Weights {
    first: usize,
    weights: Vec<i32>,
}

impl Weights {
    /// One pixel of a line.
    fn pixel(&self, line: &[u8]) -> [u8; 3] {
        let mut sums = [HALF; 3];
        for (pixel, weight) in line[self.first * 3..].chunks_exact(3).zip(&self.weights) {
            for (sum, byte) in sums.iter_mut().zip(pixel) {
                *sum += weight * i32::from(*byte);
            }
        }
        sums.map(level)
    }

    /// A line of sums, one a byte, from lines that begin with its first.
    fn line<'a>(&self, lines: impl Iterator<Item = &'a [u8]>, sums: &mut [i32]) {
        sums.fill(HALF);
        for (line, weight) in lines.zip(&self.weights) {
            for (sum, byte) in sums.iter_mut().zip(line) {
                *sum += weight * i32::from(*byte);
            }
        }
    }
}

/// A sum as a byte.
fn level(sum: i32) -> u8 {
    u8::try_from((sum >> POINT).clamp(0, 255)).unwrap_or(u8::MAX)
}

/// The weights of pixels `skip..skip + count` of a line that is brought from `from` to `to` pixels.
#[expect(clippy::cast_possible_truncation, reason = "pixels and weights are far from the ends of their types")]
fn weights(from: usize, to: usize, skip: usize, count: usize) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = 2.0 * stretch;
    let of_pixel = |pixel: usize| {
        let centre = (pixel as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let shares: Vec<f64> = (first..end).map(|at| bicubic((at as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = shares.iter().sum();
        let fixed = |share: &f64| (share / sum * f64::from(1 << POINT)).round() as i32;
        Weights { first, weights: shares.iter().map(fixed).collect() }
    };
    (skip..skip + count).map(of_pixel).collect()
}

/// Keys' cubic with a = −0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Picture {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Picture::new(width, height, places.flat_map(|(x, y)| pixel(x, y)).collect()).unwrap()
    }

    /// `tests/golden/README.md` says how it was made.
    const GOLDEN: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/clip.safetensors"));
    /// Every so many values are recorded.
    const EVERY: usize = 97;
    /// Less than a thousandth of a level: the same bytes, made normal in another order.
    const TOLERANCE: f32 = 1e-5;

    #[test]
    fn pictures_of_all_sizes_are_prepared_as_clips_own_processor_does() {
        let golden = safetensors::SafeTensors::deserialize(GOLDEN).unwrap();
        assert_eq!(golden.len(), 7);
        for (name, view) in golden.tensors() {
            let (width, height) = name.split_once('x').unwrap();
            let pixel = |x: u32, y: u32| [0, 1, 2].map(|c| (((x * 7 + y * 13 + c * 29) ^ (x * y / 5)) % 256) as u8);
            let picture = picture(width.parse().unwrap(), height.parse().unwrap(), pixel);
            let mut planes = Vec::new();
            Clip::default().planes(&picture, &mut planes);
            assert_eq!(planes.len(), 3 * 224 * 224);
            let want = view.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
            let got = planes.iter().step_by(EVERY);
            assert_eq!(want.len(), got.len());
            let worst = got.zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
            assert!(worst < TOLERANCE, "{name}: {worst}");
        }
    }

    #[test]
    fn a_picture_of_one_colour_stays_it_at_every_size() {
        let clip = Clip::default();
        for (width, height) in [(224, 224), (64, 64), (512, 512), (640, 64), (64, 1024), (225, 311)] {
            let square = clip.square(&picture(width, height, |_, _| [7, 128, 255]));
            assert_eq!(square.len(), 224 * 224 * 3);
            assert!(square.chunks_exact(3).all(|pixel| pixel == [7, 128, 255]), "{width}x{height}");
        }
    }

    #[test]
    fn a_picture_of_the_right_size_is_not_touched() {
        let own = picture(224, 224, |x, y| [x as u8, y as u8, (x ^ y) as u8]);
        assert_eq!(Clip::default().square(&own), own.rgb());
    }

    #[test]
    fn the_middle_of_the_longer_side_is_seen() {
        // White in the middle third, black beside it.
        let wide = picture(3 * 224, 224, |x, _| [if (224..448).contains(&x) { 255 } else { 0 }; 3]);
        assert!(Clip::default().square(&wide).iter().all(|byte| *byte == 255));
        let high = picture(224, 3 * 224, |_, y| [if (224..448).contains(&y) { 255 } else { 0 }; 3]);
        assert!(Clip::default().square(&high).iter().all(|byte| *byte == 255));
    }

    #[test]
    fn a_fine_pattern_becomes_grey_instead_of_aliasing() {
        let chess = picture(896, 896, |x, y| [if (x + y) % 2 == 0 { 255 } else { 0 }; 3]);
        let square = Clip::default().square(&chess);
        assert!(square.iter().all(|byte| byte.abs_diff(128) <= 2));
    }

    #[test]
    fn levels_become_normal_values_plane_by_plane() {
        let clip = Clip { side: 1, mean: [0.5, 0.0, 1.0], std: [0.5, 1.0, 2.0] };
        let mut planes = vec![9.0];
        clip.planes(&picture(2, 2, |_, _| [255, 51, 0]), &mut planes);
        assert_eq!(planes, [9.0, 1.0, 0.2, -0.5]);
    }
}
