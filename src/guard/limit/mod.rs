//! How often and how much: limits that are charged together or not at all.

mod at_once;
mod book;
mod cost;
mod error;
mod gcra;
mod headers;
mod layer;
mod ledger;
mod limits;
mod metrics;
mod passing;
mod period;
mod price;
mod receipt;
#[cfg(feature = "redis")]
mod redis;
#[cfg(not(feature = "redis"))]
#[path = "redis_absent.rs"]
mod redis;
mod refusal;
mod rows;
mod settings;
mod standing;
mod store_settings;
mod subject;
mod table;
mod top;
mod usage;

pub(super) use at_once::Lasts;
pub use cost::{Cost, Dimension};
pub use error::LimitError;
pub use gcra::{Pace, Verdict};
pub(super) use headers::OLDER;
pub use headers::{RATE_LIMIT, RATE_LIMIT_POLICY};
pub use layer::{LimitLayer, Limited, Tier, real_cost, subject_of};
pub use ledger::LedgerError;
pub use limits::Limits;
pub use price::Prices;
pub use receipt::Receipt;
pub use redis::RedisStore;
pub use refusal::{Refusal, Why};
pub use settings::{
    AtOnceSettings, BudgetSettings, CostSettings, Lasting, LimitHeaders, LimitSettings, Period, RuleSettings, ShareBy,
};
pub use standing::{ShareStanding, Standing};
pub use store_settings::{LeaseSettings, LimitStore, RedisSettings, WhenStoreIsDown};
pub(super) use subject::site;
pub use subject::{ANONYMOUS_TIER, Subject};
pub use usage::{CallerUsage, LimitKind, LimitUsage, SpentUsage, TopUsage, Usage};
