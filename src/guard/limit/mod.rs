//! How often and how much: limits that are charged together or not at all.

mod at_once;
mod book;
mod cost;
mod gcra;
mod ledger;
mod period;
mod settings;
mod subject;
mod table;

pub use cost::{Cost, Dimension};
pub use gcra::{Pace, Verdict};
pub use ledger::LedgerError;
pub use settings::{
    AtOnceSettings, BudgetSettings, CostSettings, Lasting, LimitHeaders, LimitSettings, Period, RuleSettings, ShareBy,
};
pub use subject::{ANONYMOUS_TIER, Subject};
