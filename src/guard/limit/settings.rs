//! How often, how many at once, and how much in all: the tables of `[limits]`.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cost::Dimension;
use super::gcra::Pace;
use super::store_settings::{LimitStore, RedisSettings, WhenStoreIsDown};
use super::table::MOST_ENTRIES;
use crate::wire::EndpointPattern;

/// Where budgets are kept unless told.
const LEDGER: &str = "state/limits.redb";

/// How often, how many at once, and how much in all. Without rules nothing is limited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema), schemars(rename = "CallLimitSettings"))]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Where it is remembered what was charged: `memory`, or a `redis` that several gates share.
    pub store: LimitStore,
    /// The Redis of `store = "redis"`.
    pub redis: RedisSettings,
    /// Most memory for what is remembered of callers, in bytes; 24 bytes a key. It is touched only as far as it is used.
    /// When it is full of callers that have not rested, new ones are refused.
    pub memory_bytes: NonZeroU32,
    /// Network of IPv6 that counts as one address, as the length of its prefix.
    pub ipv6_prefix: u8,
    /// Which headers tell callers what is left: `draft` is `RateLimit` and `RateLimit-Policy` of the IETF draft, `older`
    /// the triple `RateLimit-Limit`, `-Remaining` and `-Reset`.
    pub headers: LimitHeaders,
    /// File in which budgets are kept over a restart; it is made, and the folder that it is in. Unless told, it is
    /// `state/limits.redb` below the working directory, where there are budgets and `store` is `memory`. With an empty name
    /// they start anew.
    pub ledger: Option<PathBuf>,
    /// How often the ledger is written, in milliseconds. A crash forgets at most so much.
    pub ledger_write_ms: NonZeroU64,
    /// Callers with a spent part of a budget that are kept at most; one more is refused.
    pub ledger_entries: NonZeroU32,
    /// How often: GCRA, at a pace with a burst.
    pub rule: Vec<RuleSettings>,
    /// How many at once.
    pub at_once: Vec<AtOnceSettings>,
    /// How much in an hour, a day or a month (UTC).
    pub budget: Vec<BudgetSettings>,
    /// What calls cost. The first row that matches decides; without one a call costs one request and, where it starts
    /// work, one picture; a poll costs a fiftieth of a request.
    pub cost: Vec<CostSettings>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            store: LimitStore::Memory,
            redis: RedisSettings::default(),
            memory_bytes: NonZeroU32::new(64 << 20).expect("not zero"),
            ipv6_prefix: 64,
            headers: LimitHeaders::Draft,
            ledger: None,
            ledger_write_ms: NonZeroU64::new(1000).expect("not zero"),
            ledger_entries: NonZeroU32::new(100_000).expect("not zero"),
            rule: Vec::new(),
            at_once: Vec::new(),
            budget: Vec::new(),
            cost: Vec::new(),
        }
    }
}

/// Which headers tell callers what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitHeaders {
    /// `RateLimit-Policy` and `RateLimit` as structured fields.
    Draft,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    Older,
    /// Only `Retry-After`, on refusals.
    Off,
}

/// Whose share a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ShareBy {
    /// One share for each client address; IPv6 by its network.
    Address,
    /// One share for each site: a /48 of IPv6, which is what a provider gives one customer; IPv4 as `address`. A second, wider
    /// limit, for who moves between networks of a site.
    Site,
    /// One share for each caller; who has no name is known by the address.
    Caller,
    /// One share for each caller with a name. The limit is not about who has none.
    Named,
    /// One share for all callers of a tier.
    Tier,
    /// One share for each app.
    Endpoint,
    /// One share for everybody.
    All,
}

/// How often: `amount` in every `per_ms`, of which a rested caller may spend `burst` at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleSettings {
    /// Its name, in headers, metrics and refusals.
    pub name: String,
    /// What is counted.
    pub of: Dimension,
    /// Whose share it is.
    pub by: ShareBy,
    /// So much comes back in every `per_ms`.
    pub amount: NonZeroU32,
    /// The time for `amount`, in milliseconds.
    pub per_ms: NonZeroU64,
    /// So much may be spent at once by who has rested; `amount` unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU32>,
    /// Tiers that are meant; empty for all. `anonymous` is who has none.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// Endpoints that are meant, as globs; empty for all.
    #[serde(default)]
    pub endpoints: Vec<EndpointPattern>,
    /// Count what it would refuse, but refuse nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// What it does while `redis` does not answer: `refuse` with 503, or count `local`ly, with a warning metric.
    #[serde(default)]
    pub when_store_is_down: WhenStoreIsDown,
}

/// What is counted while it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Lasting {
    /// Calls under way, until the end of their answers.
    Requests,
    /// Open realtime sockets.
    Sockets,
}

/// How many at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AtOnceSettings {
    /// Its name, in metrics and refusals.
    pub name: String,
    /// What is counted.
    pub of: Lasting,
    /// Whose share it is.
    pub by: ShareBy,
    /// So many at once.
    pub most: NonZeroU32,
    /// Tiers that are meant; empty for all. `anonymous` is who has none.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// Endpoints that are meant, as globs; empty for all.
    #[serde(default)]
    pub endpoints: Vec<EndpointPattern>,
    /// Count what it would refuse, but refuse nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// What it does while `redis` does not answer: `refuse` with 503, or count `local`ly, with a warning metric.
    #[serde(default)]
    pub when_store_is_down: WhenStoreIsDown,
}

/// When a budget starts anew, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// With each hour.
    Hour,
    /// At midnight.
    Day,
    /// On the first of each month.
    Month,
}

/// How much in a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BudgetSettings {
    /// Its name, in metrics, refusals and the ledger.
    pub name: String,
    /// What is counted.
    pub of: Dimension,
    /// Whose share it is.
    pub by: ShareBy,
    /// So much in each period.
    pub amount: NonZeroU64,
    /// The period, in UTC.
    pub per: Period,
    /// Tiers that are meant; empty for all. `anonymous` is who has none.
    #[serde(default)]
    pub tiers: Vec<String>,
    /// Endpoints that are meant, as globs; empty for all.
    #[serde(default)]
    pub endpoints: Vec<EndpointPattern>,
    /// Count what it would refuse, but refuse nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// What it does while `redis` does not answer: `refuse` with 503, or count `local`ly, with a warning metric.
    #[serde(default)]
    pub when_store_is_down: WhenStoreIsDown,
}

/// What a call of some endpoints costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CostSettings {
    /// Endpoints that are meant, as globs.
    pub endpoints: Vec<EndpointPattern>,
    /// What one picture counts as.
    #[serde(default = "one")]
    pub pictures: NonZeroU32,
    /// Price of a call or frame that makes a picture, in cents; a thousandth is the least that counts.
    #[serde(default)]
    pub cents: f64,
    /// Milliseconds of the engine's device that a picture is expected to take, until it is known.
    #[serde(default)]
    pub gpu_ms: u32,
}

const fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

impl LimitSettings {
    /// What is wrong with the values, each with its key path inside `[limits]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: String, why: String| faults.push((key, why));
        let mut names = std::collections::HashSet::new();
        let lists = [
            ("rule", self.rule.iter().map(|row| &row.name).collect::<Vec<_>>()),
            ("at_once", self.at_once.iter().map(|row| &row.name).collect()),
            ("budget", self.budget.iter().map(|row| &row.name).collect()),
        ];
        for (list, rows) in lists {
            if rows.len() > MOST_ENTRIES {
                fault(list.to_owned(), format!("has more than {MOST_ENTRIES} rows"));
            }
            for (at, name) in rows.into_iter().enumerate() {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                if name.is_empty() || name.len() > 40 || !name.bytes().all(is_plain) {
                    fault(format!("{list}[{at}].name"), "is not 1 to 40 letters, digits, `-` or `_`".to_owned());
                } else if !names.insert(name.clone()) {
                    fault(format!("{list}[{at}].name"), format!("`{name}` is the name of another row"));
                }
            }
        }
        for (at, rule) in self.rule.iter().enumerate() {
            if rule.pace().is_none() {
                let why = "cannot be counted: too large a burst or too long a time; use a budget".to_owned();
                fault(format!("rule[{at}].amount"), why);
            }
        }
        for (at, row) in self.cost.iter().enumerate() {
            if !(0.0..=1e9).contains(&row.cents) {
                fault(format!("cost[{at}].cents"), "is not a price".to_owned());
            }
            if row.endpoints.is_empty() {
                fault(format!("cost[{at}].endpoints"), "names no endpoint; `**` is every one".to_owned());
            }
        }
        if !(1..=128).contains(&self.ipv6_prefix) {
            fault("ipv6_prefix".to_owned(), "is not 1 to 128".to_owned());
        }
        if self.store == LimitStore::Redis {
            // Redis counts in doubles.
            let fits = |row: &BudgetSettings| row.amount.get().checked_mul(row.of.cells_per_unit());
            for (at, row) in self.budget.iter().enumerate() {
                if fits(row).is_none_or(|cells| cells > 1 << 52) {
                    faults.push((format!("budget[{at}].amount"), "is more than Redis can count".to_owned()));
                }
            }
            faults.extend(self.redis.faults());
            if self.ledger.as_ref().is_some_and(|file| !file.as_os_str().is_empty()) {
                faults.push(("ledger".to_owned(), "keeps nothing where budgets are kept in Redis".to_owned()));
            }
        }
        faults
    }

    /// The file of the ledger, where there is one.
    pub(super) fn ledger_file(&self) -> Option<&Path> {
        let file = match (&self.ledger, self.store) {
            (_, LimitStore::Redis) => return None,
            (Some(file), LimitStore::Memory) => file,
            (None, LimitStore::Memory) if self.budget.is_empty() => return None,
            (None, LimitStore::Memory) => Path::new(LEDGER),
        };
        Some(file).filter(|file| !file.as_os_str().is_empty())
    }

    /// How often the ledger is written.
    pub(super) fn ledger_interval(&self) -> Duration {
        Duration::from_millis(self.ledger_write_ms.get())
    }

    /// Whether there is anything to limit.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rule.is_empty() && self.at_once.is_empty() && self.budget.is_empty()
    }
}

impl RuleSettings {
    /// The rule in cells; `None` where they cannot be counted.
    pub(super) fn pace(&self) -> Option<Pace> {
        let scale = self.of.cells_per_unit();
        let amount = u64::from(self.amount.get()) * scale;
        let burst = u64::from(self.burst.unwrap_or(self.amount).get()) * scale;
        Pace::new(amount, Duration::from_millis(self.per_ms.get()), burst)
    }
}
