//! From the size of a caller's picture to a size that the model takes, and back.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::PictureSettings;
use crate::engine::Picture;

/// The sizes of one run, width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// What the model works on: each side a multiple of the model's.
    pub working: (u32, u32),
    /// What goes back to the caller.
    pub output: (u32, u32),
}

/// Plans the sizes for a picture of `asked`.
///
/// - Answers have the asked size, scaled down where a side is over `max_output_side`.
/// - The model works near the same size: enlarged until the shorter side is `min_working_side`, then reduced until
///   neither `max_working_side` nor `max_working_pixels` is exceeded, then each side rounded to the nearest `multiple`.
///   The picture is stretched by that little rather than cropped, and stretched back afterwards.
#[must_use]
pub fn plan_sizes(asked: (u32, u32), multiple: u32, settings: &PictureSettings) -> Sizes {
    let (width, height) = (f64::from(asked.0), f64::from(asked.1));
    let longest = width.max(height);
    let shrink = (f64::from(settings.max_output_side.get()) / longest).min(1.0);
    let whole = |side: f64| (side * shrink).round().max(1.0) as u32;
    let output = (whole(width), whole(height));

    let max_side = f64::from(settings.max_working_side.get());
    let max_area = settings.max_working_pixels.get() as f64;
    let enlarge = (f64::from(settings.min_working_side.get()) / width.min(height)).max(1.0);
    let by_side = max_side / longest;
    let by_area = (max_area / (width * height)).sqrt();
    let scale = enlarge.min(by_side).min(by_area);
    let step = f64::from(multiple.max(1));
    let most_steps = (max_side / step).floor().max(1.0);
    let steps = |side: f64| (side * scale / step).round().clamp(1.0, most_steps);
    let (mut across, mut down) = (steps(width), steps(height));
    // Rounding up may pass the area; the longer side gives way, for it is stretched the least by that.
    while across * down * step * step > max_area && across.max(down) > 1.0 {
        if across >= down {
            across -= 1.0;
        } else {
            down -= 1.0;
        }
    }
    Sizes { working: ((across * step) as u32, (down * step) as u32), output }
}

/// Scales a picture with a Lanczos filter of three lobes; gives it back as it is where the size is right.
///
/// Blocks: call it in the [`super::PicturePool`].
#[must_use]
pub fn resize(picture: Picture, size: (u32, u32)) -> Picture {
    if (picture.width(), picture.height()) == size {
        return picture;
    }
    let source = ImageRef::new(picture.width(), picture.height(), picture.rgb(), PixelType::U8x3)
        .expect("a picture holds exactly its pixels");
    let mut target = Image::new(size.0, size.1, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new().resize(&source, &mut target, &options).expect("both are 8-bit RGB");
    Picture::new(size.0, size.1, target.into_vec()).expect("the target has just this size")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(width: u32, height: u32) -> Sizes {
        plan_sizes((width, height), 64, &PictureSettings::default())
    }

    #[test]
    fn a_canvas_of_the_models_size_is_left_alone() {
        assert_eq!(plan(512, 512), Sizes { working: (512, 512), output: (512, 512) });
    }

    #[test]
    fn an_odd_canvas_is_snapped_inside_and_answered_as_asked() {
        assert_eq!(plan(700, 500), Sizes { working: (704, 512), output: (700, 500) });
    }

    #[test]
    fn a_small_picture_is_enlarged_for_the_model() {
        assert_eq!(plan(64, 32), Sizes { working: (512, 256), output: (64, 32) });
        assert_eq!(plan(1, 1), Sizes { working: (256, 256), output: (1, 1) });
    }

    #[test]
    fn a_large_picture_is_reduced_and_its_answer_bounded() {
        assert_eq!(plan(4000, 3000), Sizes { working: (896, 640), output: (2048, 1536) });
    }

    #[test]
    fn every_shape_stays_within_the_bounds() {
        let settings = PictureSettings::default();
        for width in [1_u32, 2, 63, 100, 511, 513, 777, 1024, 5000, 60_000] {
            for height in [1_u32, 9, 64, 480, 1000, 1023, 20_000] {
                let (w, h) = plan(width, height).working;
                assert!(w % 64 == 0 && h % 64 == 0 && w >= 64 && h >= 64, "{width}x{height} gives {w}x{h}");
                assert!(w <= 1024 && h <= 1024, "{width}x{height} gives {w}x{h}");
                assert!(u64::from(w * h) <= settings.max_working_pixels.get(), "{width}x{height} gives {w}x{h}");
            }
        }
    }
}
