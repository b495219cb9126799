//! What was taken from a store, so that it can be put right.

use super::RedisStore;
use super::places::{Errand, HeldPlace};
use crate::guard::limit::cost::{Cost, Dimension};
use crate::guard::limit::limits::Inner as LimitsInner;

/// What was taken from a store.
#[derive(Debug)]
pub(in crate::guard::limit) struct SharedReceipt {
    pub(super) store: RedisStore,
    /// Rules that were charged: key, what they count, nanoseconds of one cell.
    pub(super) rules: Vec<(String, Dimension, u64)>,
    /// Budgets that were charged: key, what they count, the end of the period.
    pub(super) budgets: Vec<(String, Dimension, u64)>,
    pub(super) place: Option<HeldPlace>,
}

impl SharedReceipt {
    /// Whether something lasts until this is dropped.
    pub(in crate::guard::limit) const fn holds_places(&self) -> bool {
        self.place.is_some()
    }

    /// Sends for what puts the charge right. `false` where there is no room for the errand.
    pub(in crate::guard::limit) fn settle(&self, limits: &LimitsInner, estimated: Cost, real: Cost) -> bool {
        let more = |of: Dimension| i128::from(real.cells(of)) - i128::from(estimated.cells(of));
        let (mut keys, mut numbers) = (Vec::new(), vec![0]);
        for (key, of, refill) in self.rules.iter().filter(|(_, of, _)| more(*of) != 0) {
            // Rounded up: what is given back is never more than was taken, a debt never less than it is.
            let micros = more(*of).saturating_mul(i128::from(*refill)).saturating_add(999).div_euclid(1000);
            keys.push(key.clone());
            numbers.push(i64::try_from(micros.clamp(-FAR, FAR)).unwrap_or(i64::MAX));
        }
        numbers[0] = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        for (key, of, ends) in self.budgets.iter().filter(|(_, of, _)| more(*of) != 0) {
            keys.push(key.clone());
            numbers.push(i64::try_from(*ends).unwrap_or(i64::MAX));
            numbers.push(i64::try_from(more(*of).clamp(-FAR, FAR)).unwrap_or(i64::MAX));
        }
        if keys.is_empty() {
            return true;
        }
        let lost = limits.metrics.lost_debts();
        self.store.0.errands.try_send(Errand::Settle { keys, numbers, lost }).is_ok()
    }
}

/// Seventy years in microseconds: the script's doubles are exact beyond it.
const FAR: i128 = 1 << 51;
