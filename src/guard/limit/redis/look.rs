//! How one share stands in a store, and how it is let off there.

use super::super::limits::Inner as LimitsInner;
use super::super::rows::Rows;
use super::super::standing::{Standing, StoreSilent};
use super::super::subject::Share;
use super::{Inner, RedisStore, StoreError};

/// The keys of one share: of rules, of budgets, and of what lasts, as many as there are limits with such shares.
struct Keys {
    rules: Vec<String>,
    budgets: Vec<String>,
    at_once: Vec<String>,
}

impl Keys {
    fn new(store: &Inner, rows: &Rows, share: &Share<'_>) -> Self {
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by));
        let at_once = rows.at_once.iter().filter(|row| share.is_of(row.settings.by));
        Self {
            rules: rules.map(|rule| store.key((&rule.name, rule.settings.of.as_str()), share)).collect(),
            budgets: budgets.map(|row| store.key((&row.name, row.settings.of.as_str()), share)).collect(),
            at_once: at_once.map(|row| store.key((&row.name, row.settings.of.as_str()), share)).collect(),
        }
    }
}

impl RedisStore {
    /// How the share stands with every limit that has such shares: rules, what lasts, budgets.
    pub(in crate::guard::limit) async fn standing(
        &self,
        limits: &LimitsInner,
        share: &Share<'_>,
    ) -> Result<Vec<Standing>, StoreSilent> {
        let rows = limits.rows.load_full();
        let keys = Keys::new(&self.0, &rows, share);
        let mut call = self.0.look.prepare_invoke();
        for key in keys.rules.iter().chain(&keys.budgets).chain(&keys.at_once) {
            call.key(key);
        }
        call.arg(keys.rules.len()).arg(keys.budgets.len());
        let answer: Vec<u64> = self.0.run(&call).await?;
        if answer.len() != 1 + keys.rules.len() + 2 * keys.budgets.len() + keys.at_once.len() {
            return Err(StoreError::Answer.into());
        }
        let mut answer = answer.into_iter();
        let mut number = || answer.next().unwrap_or(0);
        let now = number();
        let nanos = |micros: u64| micros.saturating_mul(1000);
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let mut standings: Vec<_> = rules.map(|rule| rule.standing(nanos(number()), nanos(now))).collect();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by));
        let budgets: Vec<_> = budgets
            .map(|budget| {
                let (ends, spent) = (number(), number());
                budget.standing(spent, ends.saturating_sub(now / 1_000_000))
            })
            .collect();
        let at_once = rows.at_once.iter().filter(|row| share.is_of(row.settings.by));
        standings.extend(at_once.map(|row| row.standing(u32::try_from(number()).unwrap_or(u32::MAX))));
        standings.extend(budgets);
        Ok(standings)
    }

    /// Lets the share off at all gates: how many limits held something.
    pub(in crate::guard::limit) async fn forget(
        &self,
        limits: &LimitsInner,
        share: &Share<'_>,
    ) -> Result<usize, StoreSilent> {
        let keys = Keys::new(&self.0, &limits.rows.load_full(), share);
        let mut call = self.0.forget.prepare_invoke();
        for key in keys.rules.iter().chain(&keys.budgets) {
            call.key(key);
        }
        Ok(self.0.run(&call).await?)
    }
}

impl From<StoreError> for StoreSilent {
    fn from(cause: StoreError) -> Self {
        Self(cause.into())
    }
}
