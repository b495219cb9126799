//! How one share stands with every limit, and how it is let off.

use serde::{Deserialize, Serialize};

use super::limits::Limits;
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
        let (now, wall) = (inner.now(), inner.wall());
        let rules = rows.rules.iter().filter(|rule| share.is_of(rule.settings.by)).map(|rule| {
            let tat = inner.table.tat(rule.key(&inner.table, share));
            let scale = rule.settings.of.cells_per_unit();
            Standing {
                name: rule.name.to_string(),
                left: rule.pace.left(tat, now) / scale,
                most: u64::from(rule.pace.burst.get()) / scale,
                whole_in_s: Some(tat.saturating_sub(now).div_ceil(1_000_000_000)),
            }
        });
        let at_once = rows.at_once.iter().filter(|row| share.is_of(row.settings.by)).map(|row| {
            let most = row.settings.most.get();
            let left = most.saturating_sub(row.lasts.taken(share)).into();
            Standing { name: row.name.to_string(), left, most: most.into(), whole_in_s: None }
        });
        let book = inner.ledger.book();
        let budgets = rows.budgets.iter().filter(|budget| share.is_of(budget.settings.by)).map(|budget| {
            let (most, scale) = (budget.settings.amount.get(), budget.settings.of.cells_per_unit());
            let window = budget.settings.per.around(wall);
            let spent = book.spent(budget.account(&share), window);
            let left = most.saturating_mul(scale).saturating_sub(spent) / scale;
            let whole_in_s = if spent == 0 { 0 } else { window.left(wall).as_secs() };
            Standing { name: budget.name.to_string(), left, most, whole_in_s: Some(whole_in_s) }
        });
        Some(ShareStanding { key: share.to_string(), limits: rules.chain(at_once).chain(budgets).collect() })
    }

    /// Lets one share off: its rules are rested and its budgets unspent. The share is written `caller:ann`,
    /// `address:203.0.113.7`, `tier:free`, `endpoint:fal-ai/lcm` or `all` (the share of everybody, not everybody's). What
    /// lasts goes on and keeps its places, and a shared store keeps what it holds ([`Limits::is_shared`]).
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
