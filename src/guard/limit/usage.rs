//! What limits have done so far, for an operator's eyes, and how one share is let off.

use serde::Serialize;

use super::book::Account;
use super::limits::Limits;
use super::subject::Share;

/// Most accounts that are listed: those that spent most.
const TOP: usize = 100;

/// What limits have done since the start, and what is spent of budgets now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Every limit by its name.
    pub limits: Vec<LimitUsage>,
    /// What is spent in the periods that have not ended: the accounts that spent most.
    pub spent: Vec<SpentUsage>,
    /// Keys of rules that have not rested.
    pub live_keys: usize,
}

/// What one limit did since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitUsage {
    /// Its name.
    pub name: String,
    /// Calls and frames that it let through.
    pub passed: u64,
    /// Calls and frames that it refused.
    pub refused: u64,
    /// Calls and frames that it would have refused, were it no dry run.
    pub would_refuse: u64,
}

/// What one account spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpentUsage {
    /// The budget's name, and whose account it is.
    pub account: String,
    /// Units: pictures, milliseconds, cents, …, with fractions cut off.
    pub units: u64,
    /// The end of its period, in seconds since 1970.
    pub until: u64,
}

impl Limits {
    /// What happened so far. It walks all that is remembered: not for every second.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let inner = self.inner();
        let rules = inner.rules.iter().map(|rule| (&rule.name, &rule.counts));
        let at_once = inner.at_once.iter().map(|row| (&row.name, &row.counts));
        let budgets = inner.budgets.iter().map(|budget| (&budget.name, &budget.counts));
        let limits = rules.chain(at_once).chain(budgets).map(|(name, counts)| {
            let [passed, refused, would_refuse] = counts.seen();
            LimitUsage { name: name.to_string(), passed, refused, would_refuse }
        });
        let limits = limits.collect();
        let scale = |label: &str| {
            let budget = inner.budgets.iter().find(|budget| label.split(' ').next() == Some(&*budget.name));
            budget.map_or(1, |budget| budget.settings.of.cells_per_unit())
        };
        let book = inner.ledger.book();
        let mut spent: Vec<_> = book.open(inner.unix()).cloned().collect();
        drop(book);
        spent.sort_unstable_by(|one, other| other.cells.cmp(&one.cells).then_with(|| one.label.cmp(&other.label)));
        spent.truncate(TOP);
        let spent = spent.into_iter().map(|spent| SpentUsage {
            units: spent.cells / scale(&spent.label),
            account: spent.label.to_string(),
            until: spent.until,
        });
        Usage { limits, spent: spent.collect(), live_keys: inner.table.live(inner.now()) }
    }

    /// Lets one share off: its rules are rested and its budgets unspent. The share is written `caller:ann`,
    /// `address:203.0.113.7`, `tier:free`, `endpoint:fal-ai/lcm` or `all` (the share of everybody, not everybody's).
    ///
    /// `None` where the text is no share; else how many limits had something to forget.
    #[must_use]
    pub fn reset(&self, share: &str) -> Option<usize> {
        let inner = self.inner();
        let share = Share::parse(share, inner.ipv6_prefix())?;
        let rules = inner.rules.iter().enumerate().filter(|(_, rule)| share.is_of(rule.settings.by));
        let rested = rules.filter(|(at, _)| inner.table.reset(inner.table.fingerprint((*at, share)))).count();
        let mut book = inner.ledger.book();
        let budgets = inner.budgets.iter().filter(|budget| share.is_of(budget.settings.by));
        let unspent = budgets.filter(|budget| book.reset(Account::new(&budget.name, &share))).count();
        Some(rested + unspent)
    }
}
