//! All that waits and runs at one moment, as plain values.

use std::time::Instant;

use super::desk::Desk;
use super::ledger::Ledger;
use super::plan::{self, Checking, Decision, Outlook, Running, Scene, Waiting};

/// All that waits and runs at one moment.
pub(super) struct Seen {
    /// Jobs with rows that have not begun: those of the floor first, then those of the queue.
    pub(super) waiting: Vec<(u64, Waiting)>,
    /// Rows under way.
    pub(super) running: Vec<Running>,
    /// Decoded pictures that wait for their check.
    pub(super) checking: Vec<Checking>,
}

impl Seen {
    /// What the device does next.
    pub(super) fn decide(&self, ledger: &Ledger, outlook: Outlook, now: Instant) -> Decision {
        self.show(ledger, outlook, now, plan::next)
    }

    /// The jobs that have a place: indices, one a row.
    pub(super) fn places(&self, ledger: &Ledger, now: Instant) -> Vec<usize> {
        if self.waiting.is_empty() { Vec::new() } else { self.show(ledger, Outlook::Open, now, |scene| scene.places()) }
    }

    fn show<T>(&self, ledger: &Ledger, outlook: Outlook, now: Instant, look: impl FnOnce(&Scene<'_>) -> T) -> T {
        let waiting: Vec<Waiting> = self.waiting.iter().map(|(_, job)| *job).collect();
        let Ledger { limits, costs, turns, sides } = ledger;
        let (limits, sides) = (*limits, *sides);
        let (running, checking) = (&self.running, &self.checking);
        look(&Scene { waiting: &waiting, running, checking, turns, costs, sides, limits, outlook, now })
    }

    /// The device as it will be after a decision was carried out, without the jobs that still wait in the queue then.
    pub(super) fn after(&self, decision: Decision, ledger: &Ledger, now: Instant) -> Desk {
        let running = self.running.iter().map(|row| (*row, 0)).collect();
        let mut desk = Desk::new(ledger.clone(), now, running);
        self.checking.iter().for_each(|picture| desk.painted(*picture, 0));
        self.waiting.iter().for_each(|(_, job)| desk.came(*job, 0));
        if matches!(decision, Decision::Step(_)) {
            desk.pass_over(&self.places(ledger, now));
        }
        desk.apply(decision);
        desk.keep_begun();
        desk
    }
}
