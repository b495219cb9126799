//! The guidance embedding: a model distilled with guidance takes its scale as sines and cosines.

/// Guidance scales beyond this do nothing good; they are clamped to it.
pub const MAX_GUIDANCE: f64 = 20.0;

/// Embeds a guidance scale into `width` values: sines, then cosines, then a zero if `width` is odd.
///
/// `scale` is clamped to `0..=20`. The angles grow to 19,000, so that the single-precision reference itself is only good to
/// 1e-3; this is evaluated in double precision.
#[must_use]
pub fn guidance_embedding(scale: f64, width: usize) -> Vec<f32> {
    let angle = 1000.0 * (scale.clamp(0.0, MAX_GUIDANCE) - 1.0);
    let half = width / 2;
    let fall = 10_000_f64.ln() / (half.max(2) - 1) as f64;
    let angles = (0..half).map(|i| angle * (-fall * i as f64).exp());
    let mut embedding = vec![0.0; width];
    for (i, angle) in angles.enumerate() {
        let (sin, cos) = angle.sin_cos();
        embedding[i] = sin as f32;
        embedding[half + i] = cos as f32;
    }
    embedding
}
