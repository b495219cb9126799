//! What the engine's thread keeps in mind between two calls.

use std::time::Duration;

use super::costs::{Costs, Phase, Size};
use super::plan::{Limits, Sides, Turns};

/// What the engine's thread keeps in mind between two calls.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    pub(super) limits: Limits,
    pub(super) costs: Costs,
    pub(super) turns: Turns,
    pub(super) sides: Sides,
}

impl Ledger {
    /// Nothing has run yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, costs: Costs::default(), turns: Turns::default(), sides: Sides::default() }
    }

    /// A call was made and went well.
    pub(super) fn made(&mut self, phase: Phase, call: (Size, usize), took: Duration) {
        self.costs.note(phase, call, took);
        self.sides.note(phase, took);
    }
}
