//! A picture in memory.

/// An RGB picture, 8 bits a channel, rows from the top, no padding: `height · width · 3` bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// Takes pixels; `None` unless `rgb` holds exactly `width · height · 3` bytes and neither side is zero.
    #[must_use]
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Option<Self> {
        let want = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (want > 0 && rgb.len() == want).then_some(Self { width, height, rgb })
    }

    /// The same size in black.
    #[must_use]
    pub fn blackened(self) -> Self {
        let mut rgb = self.rgb;
        rgb.fill(0);
        Self { rgb, ..self }
    }

    /// Width in pixels.
    #[must_use]
    pub const fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// The pixels.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Gives the pixels away.
    #[must_use]
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }
}

/// Shows the size only: pictures are nobody's business in a log.
impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}
