//! What limits have done so far, for an operator's eyes.

use serde::{Deserialize, Serialize};

use super::cost::Dimension;
use super::limits::{Inner, Limits};
use super::metrics::RuleCounts;
use super::rows::Rows;
use super::settings::{Lasting, Period, ShareBy};
use super::top::Counted;

/// Most accounts and callers that are listed: those that spent and called most.
const LISTED: usize = 100;

/// What limits have done since the start, who calls, and what is spent of budgets now. Its size is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Every limit in force.
    pub limits: Vec<LimitUsage>,
    /// Who calls most.
    pub top: TopUsage,
    /// What is spent in the periods that have not ended: the 100 accounts that spent most.
    pub spent: Vec<SpentUsage>,
    /// Keys of rules that have not rested.
    pub live_keys: usize,
    /// Keys that the table of the rules has room for.
    pub room_for_keys: usize,
}

/// What one limit is, and did since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUsage {
    /// Its name.
    pub name: String,
    /// What it limits.
    #[serde(flatten)]
    pub kind: LimitKind,
    /// Whose share it is.
    pub by: ShareBy,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Calls and frames that it let through.
    pub passed: u64,
    /// Calls and frames that it refused.
    pub refused: u64,
    /// Calls and frames that it would have refused, were it no dry run.
    pub would_refuse: u64,
}

/// What a limit limits, and how all its shares stand together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LimitKind {
    /// How often.
    Rule {
        /// What is counted.
        of: Dimension,
        /// So much comes back in every `per_ms`.
        amount: u64,
        /// The time for `amount`, in milliseconds.
        per_ms: u64,
        /// So much may be spent at once.
        burst: u64,
    },
    /// How many at once.
    AtOnce {
        /// What is counted.
        of: Lasting,
        /// So many at once, a share.
        amount: u64,
        /// How many there are now, of all shares.
        now: u64,
    },
    /// How much in a period.
    Budget {
        /// What is counted.
        of: Dimension,
        /// So much in each period, a share.
        amount: u64,
        /// The period, in UTC.
        per: Period,
        /// What all shares spent in this period, in units.
        spent: u64,
        /// The end of this period, in seconds since 1970.
        until: u64,
    },
}

/// Who calls most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopUsage {
    /// In this hour (UTC).
    pub this_hour: Vec<CallerUsage>,
    /// In the one before.
    pub last_hour: Vec<CallerUsage>,
}

/// What one caller did in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerUsage {
    /// Who: what [`Limits::reset`] takes.
    pub key: String,
    /// Calls and frames; among very many callers at most `overstated` too many.
    pub calls: u64,
    /// How many of them were refused, since the caller was among those who call most.
    pub refused: u64,
    /// How much `calls` may be too high.
    pub overstated: u64,
}

/// What one account spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentUsage {
    /// The budget's name.
    pub budget: String,
    /// Whose account it is: what [`Limits::reset`] takes.
    pub key: String,
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
        let rows = inner.rows.load_full();
        let (limits, spent) = inner.limits_and_accounts(&rows);
        let [this_hour, last_hour] = inner
            .top
            .most(inner.unix())
            .map(|counted| counted.into_iter().take(LISTED).map(CallerUsage::from).collect::<Vec<_>>());
        Usage {
            limits,
            top: TopUsage { this_hour, last_hour },
            spent,
            live_keys: inner.table.live(inner.now()),
            room_for_keys: inner.table.capacity(),
        }
    }
}

impl From<Counted> for CallerUsage {
    fn from(counted: Counted) -> Self {
        let Counted { share, calls, refused, overstated } = counted;
        Self { key: share, calls, refused, overstated }
    }
}

impl Inner {
    fn limits_and_accounts(&self, rows: &Rows) -> (Vec<LimitUsage>, Vec<SpentUsage>) {
        let (wall, unix) = (self.wall(), self.unix());
        let mut totals = vec![0_u64; rows.budgets.len()];
        let book = self.ledger.book();
        let open = book.open(unix).filter_map(|spent| {
            let (name, key) = spent.label.split_once(' ')?;
            let at = rows.budgets.iter().position(|budget| &*budget.name == name)?;
            totals[at] = totals[at].saturating_add(spent.cells);
            let units = spent.cells / rows.budgets[at].settings.of.cells_per_unit();
            let (budget, key) = (name.to_owned(), key.to_owned());
            Some((spent.cells, SpentUsage { budget, key, units, until: spent.until }))
        });
        let mut accounts: Vec<_> = open.collect();
        drop(book);
        let order = |account: &(u64, SpentUsage)| (std::cmp::Reverse(account.0), account.1.key.clone());
        if accounts.len() > LISTED {
            accounts.select_nth_unstable_by_key(LISTED, order);
            accounts.truncate(LISTED);
        }
        accounts.sort_unstable_by_key(order);
        let usage = |(name, kind, by, dry_run): (&str, LimitKind, ShareBy, bool), counts: &RuleCounts| {
            let [passed, refused, would_refuse] = counts.seen();
            LimitUsage { name: name.to_owned(), kind, by, dry_run, passed, refused, would_refuse }
        };
        let rules = rows.rules.iter().map(|row| {
            let settings = &row.settings;
            let kind = LimitKind::Rule {
                of: settings.of,
                amount: settings.amount.get().into(),
                per_ms: settings.per_ms.get(),
                burst: settings.burst.unwrap_or(settings.amount).get().into(),
            };
            usage((&row.name, kind, settings.by, settings.dry_run), &row.counts)
        });
        let at_once = rows.at_once.iter().map(|row| {
            let (settings, now) = (&row.settings, row.lasts.all_taken());
            let kind = LimitKind::AtOnce { of: settings.of, amount: settings.most.get().into(), now };
            usage((&row.name, kind, settings.by, settings.dry_run), &row.counts)
        });
        let budgets = rows.budgets.iter().zip(&totals).map(|(row, total)| {
            let settings = &row.settings;
            let spent = total / settings.of.cells_per_unit();
            let (amount, per) = (settings.amount.get(), settings.per);
            let kind = LimitKind::Budget { of: settings.of, amount, per, spent, until: per.around(wall).end };
            usage((&row.name, kind, settings.by, settings.dry_run), &row.counts)
        });
        (rules.chain(at_once).chain(budgets).collect(), accounts.into_iter().map(|(_, account)| account).collect())
    }
}
