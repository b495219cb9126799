//! What was charged, so that it can be put right when the true cost is known.

use std::sync::Arc;

use http::HeaderMap;

use super::at_once::Place;
use super::book::Account;
use super::cost::{Cost, Dimension};
use super::headers::Told;
use super::limits::Limits;
use super::period::Window;
use super::redis::SharedReceipt;
use super::rows::{Charged, Rows};

/// What a call was charged, and the places that it holds until this is dropped.
///
/// The charge stands unless [`Receipt::settle`] puts it right.
#[derive(Debug)]
pub struct Receipt {
    limits: Limits,
    /// Those that charged it; others may be in force when it is settled.
    pub(super) rows: Arc<Rows>,
    /// Charged in this process: all, or what is owed to a store, or nothing.
    pub(super) charged: Charged,
    pub(super) budgets: Vec<BudgetShare>,
    places: Vec<Place>,
    cost: Cost,
    told: Told,
    pub(super) shared: Option<SharedReceipt>,
}

/// What was taken from one budget.
#[derive(Debug, Clone, Copy)]
pub(super) struct BudgetShare {
    pub(super) budget: usize,
    pub(super) account: Account,
    pub(super) window: Window,
}

/// What a receipt is made of.
pub(super) struct Taken {
    pub(super) rows: Arc<Rows>,
    pub(super) charged: Charged,
    pub(super) budgets: Vec<BudgetShare>,
    pub(super) places: Vec<Place>,
    pub(super) cost: Cost,
    pub(super) told: Told,
    /// What was taken from a store, where it was.
    pub(super) shared: Option<SharedReceipt>,
}

impl Receipt {
    pub(super) fn new(limits: Limits, taken: Taken) -> Self {
        let Taken { rows, charged, budgets, places, cost, told, shared } = taken;
        Self { limits, rows, charged, budgets, places, cost, told, shared }
    }

    /// What was charged.
    #[must_use]
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether something lasts until the receipt is dropped.
    #[must_use]
    pub fn holds_places(&self) -> bool {
        !self.places.is_empty() || self.shared.as_ref().is_some_and(SharedReceipt::holds_places)
    }

    /// Tells the caller what is left.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in self.told.fields() {
            headers.insert(name, value);
        }
    }

    /// Puts the charge right: what was not used is given back, what was used beyond it becomes a debt. Budgets of a period
    /// that has ended meanwhile stay as they are.
    pub fn settle(&mut self, real: Cost) {
        let inner = self.limits.inner();
        if self.shared.as_ref().is_some_and(|shared| !shared.settle(inner, self.cost, real)) {
            inner.metrics.lost_debt();
        }
        let now = inner.now();
        for (at, rule) in self.charged.which.iter().enumerate() {
            let of = self.rows.rules[*rule].settings.of;
            let (estimated, real) = (self.cost.cells(of), real.cells(of));
            let kept = estimated == real || inner.table.settle(now, &self.charged.entries[at], estimated, real);
            if !kept {
                inner.metrics.lost_debt();
            }
        }
        if !self.budgets.is_empty() {
            let unix = inner.unix();
            let mut book = inner.ledger.book();
            for share in self.budgets.iter().filter(|share| share.window.holds(unix)) {
                let of = self.rows.budgets[share.budget].settings.of;
                let cells = i64::try_from(real.cells(of)).unwrap_or(i64::MAX);
                let cells = cells.saturating_sub_unsigned(self.cost.cells(of));
                if cells != 0 {
                    book.correct(share.account, share.window, cells);
                }
            }
        }
        self.cost = real;
    }

    /// Gives back what counts work: the call failed before it cost any. Requests, frames and bytes stay charged.
    pub fn settle_without_work(&mut self) {
        let work = [Dimension::Pictures, Dimension::GpuMs, Dimension::Cents];
        let real = work.into_iter().fold(self.cost, |cost, of| cost.with_cells(of, 0));
        self.settle(real);
    }
}
