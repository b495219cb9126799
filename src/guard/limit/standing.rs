//! How one share stands with every limit, and how it is let off.

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::rows::{AtOnce, Budget, Rule};
use super::subject::Share;

/// How one share stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareStanding {
    /// Whose it is, as it is always written: IPv6 as its network.
    pub key: String,
    /// With each limit that has such shares.
    pub limits: Vec<Standing>,
}

/// How a share stands with one limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The limit's name.
    pub name: String,
    /// Units that could be spent now; places, for what is counted at once.
    pub left: u64,
    /// Units that a rested share could spend.
    pub most: u64,
    /// Seconds until all of it is back; nothing where places are waited for.
    pub whole_in_s: Option<u64>,
}

/// The store that several gates share did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the store of limits does not answer")]
pub struct StoreSilent(#[source] pub(super) Box<dyn std::error::Error + Send + Sync>);

impl Rule {
    /// How a share stands whose theoretical arrival time is `tat`, in nanoseconds of the clock that `now` is of.
    pub(super) fn standing(&self, tat: u64, now: u64) -> Standing {
        let scale = self.settings.of.cells_per_unit();
        Standing {
            name: self.name.to_string(),
            left: self.pace.left(tat, now) / scale,
            most: u64::from(self.pace.burst.get()) / scale,
            whole_in_s: Some(tat.saturating_sub(now).div_ceil(1_000_000_000)),
        }
    }
}

impl AtOnce {
    /// How a share stands that has so many places.
    pub(super) fn standing(&self, taken: u32) -> Standing {
        let most = self.settings.most.get();
        let left = most.saturating_sub(taken).into();
        Standing { name: self.name.to_string(), left, most: most.into(), whole_in_s: None }
    }
}

impl Budget {
    /// How a share stands that spent so many cells in a period that ends in so many seconds.
    pub(super) fn standing(&self, spent: u64, ends_in_s: u64) -> Standing {
        let (most, scale) = (self.settings.amount.get(), self.settings.of.cells_per_unit());
        let left = most.saturating_mul(scale).saturating_sub(spent) / scale;
        let whole_in_s = Some(if spent == 0 { 0 } else { ends_in_s });
        Standing { name: self.name.to_string(), left, most, whole_in_s }
    }
}

impl Limits {
    /// How a share stands with every limit, in the store that several gates share where there is one, else in this process;
    /// its key is written as [`Limits::let_off`] takes it. `None` where the text is no share.
    ///
    /// # Errors
    /// [`StoreSilent`] where the store does not answer in time.
    pub async fn standing_now(&self, key: &str) -> Result<Option<ShareStanding>, StoreSilent> {
        let inner = self.inner();
        let Some(store) = &inner.store else { return Ok(self.standing(key)) };
        let Some(text) = Share::decode(key) else { return Ok(None) };
        let Some(share) = Share::parse(&text, inner.ipv6_prefix()) else { return Ok(None) };
        Ok(Some(ShareStanding { key: share.to_string(), limits: store.standing(inner, &share).await? }))
    }

    /// Lets one share off, as [`Limits::reset`] does, in the store that several gates share where there is one, and in this
    /// process. `None` where the text is no share; else how many limits had something to forget.
    ///
    /// # Errors
    /// [`StoreSilent`] where the store does not answer in time: nothing is forgotten then.
    pub async fn let_off(&self, key: &str) -> Result<Option<usize>, StoreSilent> {
        let inner = self.inner();
        let Some(store) = &inner.store else { return Ok(self.reset(key)) };
        let Some(text) = Share::decode(key) else { return Ok(None) };
        let Some(share) = Share::parse(&text, inner.ipv6_prefix()) else { return Ok(None) };
        let shared = store.forget(inner, &share).await?;
        // What was counted here while the store was silent.
        Ok(self.reset(key).map(|here| shared.max(here)))
    }

    /// How a share stands in this process, whatever a shared store holds ([`Limits::standing_now`]); its key is written as [`Limits::reset`] takes it.
    /// `None` where the text is no share.
    #[must_use]
    pub fn standing(&self, key: &str) -> Option<ShareStanding> {
        let inner = self.inner();
        let text = Share::decode(key)?;
        let share = Share::parse(&text, inner.ipv6_prefix())?;
        let rows = inner.rows.load_full();
        let (now, wall) = (inner.now(), inner.wall());
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let rules = rules.map(|rule| rule.standing(inner.table.tat(rule.key(&inner.table, share)), now));
        let at_once = rows.at_once.iter().filter(|row| share.is_of(row.settings.by));
        let at_once = at_once.map(|row| row.standing(row.lasts.taken(share)));
        let book = inner.ledger.book();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by)).map(|budget| {
            let window = budget.settings.per.around(wall);
            budget.standing(book.spent(budget.account(&share), window), window.left(wall).as_secs())
        });
        Some(ShareStanding { key: share.to_string(), limits: rules.chain(at_once).chain(budgets).collect() })
    }

    /// Lets one share off: its rules are rested and its budgets unspent. The share is written `caller:ann`,
    /// `address:203.0.113.7`, `tier:free`, `endpoint:fal-ai/lcm` or `all` (the share of everybody, not everybody's). What
    /// lasts goes on and keeps its places, and a shared store keeps what it holds ([`Limits::let_off`]).
    /// Whatever a name may hold is percent-encoded, as [`Limits::usage`] shows it.
    ///
    /// `None` where the text is no share; else how many limits had something to forget.
    #[must_use]
    pub fn reset(&self, key: &str) -> Option<usize> {
        let inner = self.inner();
        let text = Share::decode(key)?;
        let share = Share::parse(&text, inner.ipv6_prefix())?;
        let rows = inner.rows.load_full();
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let rested = rules.filter(|rule| inner.table.reset(rule.key(&inner.table, share))).count();
        let mut book = inner.ledger.book();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by));
        let unspent = budgets.filter(|budget| book.reset(budget.account(&share))).count();
        Some(rested + unspent)
    }
}
