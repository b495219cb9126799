//! How one share stands with every limit, and how it is let off.

use serde::{Deserialize, Serialize};

use super::error::LimitError;
use super::limits::{Inner, Limits};
use super::rows::{AtOnce, Budget, Rows, Rule};
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

impl Limits {
    /// How a share stands in this process, whatever a shared store holds; its key is written as [`Limits::reset`] takes it.
    /// `None` where the text is no share.
    #[must_use]
    pub fn standing(&self, key: &str) -> Option<ShareStanding> {
        let inner = self.inner();
        let text = Share::decode(key)?;
        let share = Share::parse(&text, inner.ipv6_prefix())?;
        let rows = inner.rows.load_full();
        Some(ShareStanding { key: share.to_string(), limits: inner.standing_here(&rows, share) })
    }

    /// As [`Limits::standing`]; where gates share a store, it is how the share stands there, at all gates together.
    ///
    /// # Errors
    /// [`LimitError::Store`] where the store does not answer.
    pub async fn standing_soon(&self, key: &str) -> Result<Option<ShareStanding>, LimitError> {
        let inner = self.inner();
        let Some(store) = &inner.store else { return Ok(self.standing(key)) };
        let Some(text) = Share::decode(key) else { return Ok(None) };
        let Some(share) = Share::parse(&text, inner.ipv6_prefix()) else { return Ok(None) };
        let rows = inner.rows.load_full();
        let limits = store.standing(&rows, share).await.map_err(|cause| LimitError::Store(cause.into()))?;
        Ok(Some(ShareStanding { key: share.to_string(), limits }))
    }

    /// Lets one share off: its rules are rested and its budgets unspent. The share is written `caller:ann`,
    /// `address:203.0.113.7`, `tier:free`, `endpoint:fal-ai/lcm` or `all` (the share of everybody, not everybody's). What
    /// lasts goes on and keeps its places, and a shared store keeps what it holds ([`Limits::reset_soon`] does not).
    /// Whatever a name may hold is percent-encoded, as [`Limits::usage`] shows it.
    ///
    /// `None` where the text is no share; else how many limits had something to forget.
    #[must_use]
    pub fn reset(&self, key: &str) -> Option<usize> {
        let inner = self.inner();
        let text = Share::decode(key)?;
        let share = Share::parse(&text, inner.ipv6_prefix())?;
        let rows = inner.rows.load_full();
        Some(inner.reset_here(&rows, share).into_iter().filter(|forgot| *forgot).count())
    }

    /// As [`Limits::reset`]; where gates share a store, the share is let off there and in this process. What another gate
    /// counted for itself ([`Limits::charge`]) is known to that gate alone, and stays. Dropping the future may leave the
    /// share let off in the store and not here.
    ///
    /// # Errors
    /// [`LimitError::Store`] where the store does not answer: this process then forgets nothing, and the store may have.
    pub async fn reset_soon(&self, key: &str) -> Result<Option<usize>, LimitError> {
        let inner = self.inner();
        let Some(store) = &inner.store else { return Ok(self.reset(key)) };
        let Some(text) = Share::decode(key) else { return Ok(None) };
        let Some(share) = Share::parse(&text, inner.ipv6_prefix()) else { return Ok(None) };
        let rows = inner.rows.load_full();
        let there = store.reset(&rows, share).await.map_err(|cause| LimitError::Store(cause.into()))?;
        let here = inner.reset_here(&rows, share);
        // A limit that had something to forget in both is one limit.
        Ok(Some(here.into_iter().zip(there).filter(|(here, there)| *here || *there).count()))
    }
}

impl Inner {
    fn standing_here(&self, rows: &Rows, share: Share<'_>) -> Vec<Standing> {
        let (now, wall) = (self.now(), self.wall());
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let rules = rules.map(|rule| rule.standing(self.table.tat(rule.key(&self.table, share)), now));
        let at_once = rows.at_once.iter().filter(|row| share.is_of(row.settings.by));
        let at_once = at_once.map(|row| row.standing(row.lasts.taken(share).into()));
        let book = self.ledger.book();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by)).map(|budget| {
            let window = budget.settings.per.around(wall);
            budget.standing(book.spent(budget.account(&share), window), window.left(wall).as_secs())
        });
        rules.chain(at_once).chain(budgets).collect()
    }

    /// For each rule, then each budget with such shares: whether there was something to forget.
    fn reset_here(&self, rows: &Rows, share: Share<'_>) -> Vec<bool> {
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by));
        let mut forgot: Vec<_> = rules.map(|rule| self.table.reset(rule.key(&self.table, share))).collect();
        let mut book = self.ledger.book();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by));
        forgot.extend(budgets.map(|budget| book.reset(budget.account(&share))));
        forgot
    }
}

impl Rule {
    /// How a share with this arrival time stands; both in nanoseconds of one clock.
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
    /// How a share with so many places stands.
    pub(super) fn standing(&self, taken: u64) -> Standing {
        let most = u64::from(self.settings.most.get());
        Standing { name: self.name.to_string(), left: most.saturating_sub(taken), most, whole_in_s: None }
    }
}

impl Budget {
    /// How a share that spent so many cells stands, so many seconds before the period ends.
    pub(super) fn standing(&self, spent: u64, ends_in_s: u64) -> Standing {
        let (most, scale) = (self.settings.amount.get(), self.settings.of.cells_per_unit());
        let left = most.saturating_mul(scale).saturating_sub(spent) / scale;
        let whole_in_s = if spent == 0 { 0 } else { ends_in_s };
        Standing { name: self.name.to_string(), left, most, whole_in_s: Some(whole_in_s) }
    }
}
