//! What a call or a frame costs, in the units that limits count.

use serde::{Deserialize, Serialize};

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// Calls. A poll can count as a part of one.
    Requests,
    /// Pictures asked for.
    Pictures,
    /// Messages that a caller sends over realtime sockets.
    Frames,
    /// Bytes of request bodies and of frames that a caller sends.
    Bytes,
    /// Milliseconds of the engine's device; known only afterwards.
    GpuMs,
    /// Cents; a price per call is estimated first and may be settled afterwards.
    Cents,
}

impl Dimension {
    /// How many there are.
    pub(super) const COUNT: usize = 6;
    /// All of them, in the order of their amounts.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Requests, Self::Pictures, Self::Frames, Self::Bytes, Self::GpuMs, Self::Cents];

    /// How many cells one unit is: requests and cents are counted in thousandths.
    #[must_use]
    pub const fn cells_per_unit(self) -> u64 {
        match self {
            Self::Requests | Self::Cents => 1000,
            Self::Pictures | Self::Frames | Self::Bytes | Self::GpuMs => 1,
        }
    }

    /// The word for it in sentences.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Pictures => "pictures",
            Self::Frames => "frames",
            Self::Bytes => "bytes",
            Self::GpuMs => "gpu_ms",
            Self::Cents => "cents",
        }
    }
}

/// An amount in every [`Dimension`], in cells ([`Dimension::cells_per_unit`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost([u64; Dimension::COUNT]);

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self([0; Dimension::COUNT]);

    /// The cells of one dimension.
    #[must_use]
    pub const fn cells(&self, of: Dimension) -> u64 {
        self.0[of as usize]
    }

    /// The same cost with `cells` in one dimension.
    #[must_use]
    pub const fn with_cells(mut self, of: Dimension, cells: u64) -> Self {
        self.0[of as usize] = cells;
        self
    }

    /// The same cost with `units` in one dimension: fractions of a request or a cent count in thousandths, rounded up.
    /// Negative and non-finite numbers count as nothing.
    #[must_use]
    pub fn with_units(self, of: Dimension, units: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is meant")]
        #[expect(clippy::cast_precision_loss, reason = "a small constant")]
        let cells = (units * of.cells_per_unit() as f64).ceil() as u64;
        self.with_cells(of, cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_request_count_in_thousandths() {
        let poll = Cost::ZERO.with_units(Dimension::Requests, 0.02).with_units(Dimension::Pictures, 3.0);
        assert_eq!((poll.cells(Dimension::Requests), poll.cells(Dimension::Pictures)), (20, 3));
        assert_eq!(Cost::ZERO.with_units(Dimension::Cents, f64::NAN).cells(Dimension::Cents), 0);
        assert_eq!(Cost::ZERO.with_units(Dimension::Cents, -1.0), Cost::ZERO);
    }

    #[test]
    fn the_order_of_the_dimensions_is_the_order_of_the_amounts() {
        for (at, of) in Dimension::ALL.into_iter().enumerate() {
            assert_eq!(of as usize, at);
        }
    }
}
