//! What cannot wait for an answer: charged in this process, and owed to the store.

use std::sync::atomic::Ordering;

use super::charge::Ask;
use super::places::Errand;
use super::{Inner, RedisStore, SharedReceipt};
use crate::guard::limit::cost::Cost;
use crate::guard::limit::limits::Limits;
use crate::guard::limit::receipt::Receipt;
use crate::guard::limit::refusal::{Refusal, Why};
use crate::guard::limit::rows::PLACE_WAIT;
use crate::guard::limit::settings::Lasting;
use crate::guard::limit::subject::Subject;

impl RedisStore {
    /// Charges in this process, and sends the store what it is owed, which it never refuses. While the store does not
    /// answer, nothing is sent, and limits that may not do without it refuse.
    pub(in crate::guard::limit) fn owe(
        &self,
        limits: &Limits,
        subject: &Subject,
        (cost, lasting): (Cost, Option<Lasting>),
    ) -> Result<Receipt, Refusal> {
        let (store, inner) = (&*self.0, limits.inner());
        let is_down = store.is_down.load(Ordering::Relaxed);
        if is_down {
            store.look();
            if let Some(limit) = Ask::new(store, inner, subject, (cost, lasting)).firm() {
                inner.metrics.store_refused();
                let refused = Err(Refusal::new(limit, Why::NoStore, PLACE_WAIT));
                inner.note(subject, &refused);
                return refused;
            }
        }
        let mut receipt = limits.charge_here(subject, cost, lasting)?;
        if is_down {
            inner.metrics.store_local();
            return Ok(receipt);
        }
        let owed = self.owed(&receipt, (subject, inner.ipv6_prefix()));
        if !owed.settle(inner, Cost::ZERO, cost) {
            inner.metrics.lost_debt();
        }
        receipt.shared = Some(owed);
        Ok(receipt)
    }

    /// What was charged in this process, by the store's keys.
    fn owed(&self, receipt: &Receipt, (subject, ipv6_prefix): (&Subject, u8)) -> SharedReceipt {
        let rows = &receipt.rows;
        let key = |name: &str, of: &'static str, by| self.0.key((name, of), &subject.share(by, ipv6_prefix));
        let charged = receipt.charged.which.iter().zip(&receipt.charged.entries);
        // A rule in a dry run counts nothing that it would have refused.
        let rules = charged.filter(|(_, entry)| !entry.standing.refuses()).map(|(rule, entry)| {
            let rule = &rows.rules[*rule];
            let of = rule.settings.of;
            (key(&rule.name, of.as_str(), rule.settings.by), of, entry.pace.refill.get())
        });
        let budgets = receipt.budgets.iter().map(|share| {
            let budget = &rows.budgets[share.budget];
            let of = budget.settings.of;
            (key(&budget.name, of.as_str(), budget.settings.by), of, share.window.end)
        });
        SharedReceipt { store: self.clone(), rules: rules.collect(), budgets: budgets.collect(), place: None }
    }
}

impl Inner {
    /// Has it found out whether the store answers again, unless that is under way.
    fn look(&self) {
        if self.errands.capacity() == self.errands.max_capacity() {
            // There is room: nothing else is on its way.
            let _ = self.errands.try_send(Errand::Look);
        }
    }
}
