//! Unit normal noise exactly as torch's CPU generator draws it, so that a seed gives the picture that it gives there.

const WORDS: usize = 624;
const SHIFT: usize = 397;
/// Normals are made in groups: eight radii, then eight angles.
const GROUP: usize = 16;

/// The noise of one picture: torch's CPU generator (MT19937) with its single-precision normal distribution.
///
/// The state goes on from draw to draw. Every picture has a generator of its own, so that its noise never depends on the
/// pictures it is computed with. Agrees with torch to 2.4e-7, the difference between logarithm and sine of two libraries.
#[derive(Clone)]
pub struct TorchNoise {
    words: Box<[u32; WORDS]>,
    next: usize,
}

impl TorchNoise {
    /// Seeds a generator. Only the low 32 bits count.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut words = Box::new([0; WORDS]);
        words[0] = seed as u32;
        for i in 1..WORDS {
            let before = words[i - 1];
            words[i] = 1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Self { words, next: WORDS }
    }

    /// Draws one tensor of unit normal noise.
    ///
    /// # Panics
    /// If `out` has fewer than 16 places: torch draws so few in another way.
    pub fn fill(&mut self, out: &mut [f32]) {
        assert!(out.len() >= GROUP, "torch draws fewer than {GROUP} values differently");
        for value in &mut *out {
            *value = self.uniform();
        }
        let mut groups = out.chunks_exact_mut(GROUP);
        for group in &mut groups {
            turn(group);
        }
        if !groups.into_remainder().is_empty() {
            // The last group is drawn afresh and overlaps the one before it.
            let last = out.len() - GROUP;
            for value in &mut out[last..] {
                *value = self.uniform();
            }
            turn(&mut out[last..]);
        }
    }

    /// Draws one tensor of `len` unit normal values.
    ///
    /// # Panics
    /// If `len` is below 16.
    #[must_use]
    pub fn draw(&mut self, len: usize) -> Vec<f32> {
        let mut out = vec![0.0; len];
        self.fill(&mut out);
        out
    }

    /// A value in `0..1` with 24 random bits.
    fn uniform(&mut self) -> f32 {
        (self.word() & 0x00FF_FFFF) as f32 * (1.0 / 16_777_216.0)
    }

    fn word(&mut self) -> u32 {
        if self.next == WORDS {
            self.refill();
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    fn refill(&mut self) {
        for i in 0..WORDS {
            let mixed = (self.words[i] & 0x8000_0000) | (self.words[(i + 1) % WORDS] & 0x7FFF_FFFF);
            let odd = if mixed & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.words[i] = self.words[(i + SHIFT) % WORDS] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }
}

/// Shows nothing: the state is as good as the seed.
impl std::fmt::Debug for TorchNoise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorchNoise").finish_non_exhaustive()
    }
}

/// Box-Muller over a group of 16 uniform values.
fn turn(group: &mut [f32]) {
    let (radii, angles) = group.split_at_mut(GROUP / 2);
    for (radius, angle) in radii.iter_mut().zip(angles) {
        let length = (-2.0 * (1.0 - *radius).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * *angle).sin_cos();
        *radius = length * cos;
        *angle = length * sin;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_mt19937() {
        // The C++ standard states the 10,000th word of the default seed (rand.predef).
        let mut generator = TorchNoise::new(5489);
        let words: Vec<u32> = (0..10_000).map(|_| generator.word()).collect();
        assert_eq!((words[0], words[9_999]), (3_499_211_612, 4_123_659_995));
    }

    #[test]
    fn a_tail_is_redrawn_as_the_last_sixteen() {
        let mut generator = TorchNoise::new(3);
        let mut uniform: Vec<f32> = (0..36).map(|_| generator.uniform()).collect();
        let (first, last) = uniform.split_at_mut(20);
        turn(&mut first[..16]);
        turn(last);
        let drawn = TorchNoise::new(3).draw(20);
        assert_eq!(drawn, [&first[..4], last].concat());
    }
}
