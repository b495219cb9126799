//! One share as the store has it: how it stands at all gates together, and how it is let off.

use redis::Script;

use super::{Inner, RedisStore, StoreError};
use crate::guard::limit::rows::Rows;
use crate::guard::limit::standing::Standing;
use crate::guard::limit::subject::Share;

impl RedisStore {
    /// How a share stands with each limit that has such shares: rules, then what is counted at once, then budgets.
    pub(in crate::guard::limit) async fn standing(
        &self,
        rows: &Rows,
        share: Share<'_>,
    ) -> Result<Vec<Standing>, StoreError> {
        let store = &*self.0;
        let mut keys = store.charged_keys(rows, share);
        let (rules, budgets) = (keys.rules, keys.all.len() - keys.rules);
        let at_once: Vec<_> = rows.at_once.iter().filter(|row| share.is_of(row.settings.by)).collect();
        keys.all.extend(at_once.iter().map(|row| store.key((&row.name, row.settings.of.as_str()), &share)));
        if keys.all.is_empty() {
            return Ok(Vec::new());
        }
        let answer = store.ask(&store.look, &keys.all, &[rules, budgets]).await?;
        if answer.len() != 1 + rules + 2 * budgets + at_once.len() {
            return Err(StoreError::Answer);
        }
        let now = answer[0];
        let (tats, rest) = answer[1..].split_at(rules);
        let (spent, taken) = rest.split_at(2 * budgets);
        let nanos = |micros: u64| micros.saturating_mul(1000);
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by)).zip(tats);
        let rules = rules.map(|(rule, tat)| rule.standing(nanos(*tat), nanos(now)));
        let at_once = at_once.into_iter().zip(taken).map(|(row, taken)| row.standing(*taken));
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by)).zip(spent.chunks_exact(2));
        let budgets = budgets.map(|(budget, account)| {
            let left = account[0].saturating_mul(1_000_000).saturating_sub(now).div_ceil(1_000_000);
            budget.standing(account[1], left)
        });
        Ok(rules.chain(at_once).chain(budgets).collect())
    }

    /// Lets everything lapse that was taken ahead.
    pub(in crate::guard::limit) fn forget_leases(&self) {
        self.0.leases.forget_all();
    }

    /// Lets a share off in one step, at all gates. For each rule, then each budget with such shares: whether there was
    /// something to forget.
    pub(in crate::guard::limit) async fn reset(&self, rows: &Rows, share: Share<'_>) -> Result<Vec<bool>, StoreError> {
        let store = &*self.0;
        let keys = store.charged_keys(rows, share);
        if keys.all.is_empty() {
            return Ok(Vec::new());
        }
        let answer = store.ask(&store.reset, &keys.all, &[keys.rules]).await?;
        store.leases.forget(keys.all.iter());
        if answer.len() != keys.all.len() {
            return Err(StoreError::Answer);
        }
        Ok(answer.into_iter().map(|counted| counted == 1).collect())
    }
}

/// What a share is charged under: keys of rules, then of budgets.
struct ChargedKeys {
    rules: usize,
    all: Vec<String>,
}

impl Inner {
    fn charged_keys(&self, rows: &Rows, share: Share<'_>) -> ChargedKeys {
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let mut all: Vec<_> = rules.map(|rule| self.key((&rule.name, rule.settings.of.as_str()), &share)).collect();
        let rules = all.len();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by));
        all.extend(budgets.map(|budget| self.key((&budget.name, budget.settings.of.as_str()), &share)));
        ChargedKeys { rules, all }
    }

    async fn ask(&self, script: &Script, keys: &[String], numbers: &[usize]) -> Result<Vec<u64>, StoreError> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for number in numbers {
            call.arg(*number);
        }
        self.run(&call).await
    }
}
