//! `[limits.redis]`: limits that several gates share.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where limits remember what was charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitStore {
    /// In this process; budgets in the ledger.
    #[default]
    Memory,
    /// In a Redis or Valkey that several gates share.
    Redis,
}

/// What a limit does when its store does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WhenStoreIsDown {
    /// Refuses the call with 503.
    #[default]
    Refuse,
    /// Counts in this process meanwhile. A call is counted here only if all limits that it meets say so.
    Local,
}

/// A Redis (6.2 or newer) or Valkey that several gates share. Only used with `store = "redis"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema), schemars(rename = "LimitRedisSettings"))]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// Variable with its URL: `redis://user:password@host:6379/0`, or `rediss://…` for TLS.
    pub url_env: Option<String>,
    /// File with its URL, instead of the variable.
    pub url_file: Option<PathBuf>,
    /// Variable with the secret under which callers are hashed, at least 32 bytes and the same at all gates.
    pub hash_key_env: Option<String>,
    /// File with that secret, instead of the variable.
    pub hash_key_file: Option<PathBuf>,
    /// File with the certificates (PEM) of the authority that vouches for it, instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// First part of all of its keys. Gates with the same share their limits.
    pub prefix: String,
    /// Time to connect, in milliseconds.
    pub connect_ms: NonZeroU64,
    /// Time for one decision, in milliseconds; then it does not answer.
    pub timeout_ms: NonZeroU64,
    /// Time after which the places of a gate that died are free again, in milliseconds. They are renewed three times as often.
    pub place_lease_ms: NonZeroU64,
    /// Cells that gates take ahead, so that most calls need no round trip.
    pub lease: LeaseSettings,
}

/// Cells of rules that a gate takes from the store ahead of its calls. Calls that meet a budget, a limit of what lasts, or a rule
/// in a dry run always ask the store. While it is on, at most what comes back in `keep_ms`, and never more than what all
/// gates have leased of a share, may pass beyond its limit in any time; and a share may get so much less where leases lapse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema), schemars(rename = "LimitLeaseSettings"))]
#[serde(deny_unknown_fields, default)]
pub struct LeaseSettings {
    /// So many more calls like the one that asks, but at most a tenth of what its share has left; 0 leases nothing.
    pub calls: u32,
    /// How long they may be spent, in milliseconds; then they lapse.
    pub keep_ms: NonZeroU64,
    /// Shares of rules with a lease, at most; the calls of others ask the store.
    pub keys: NonZeroU32,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            calls: 0,
            keep_ms: NonZeroU64::new(1000).expect("not zero"),
            keys: NonZeroU32::new(10_000).expect("not zero"),
        }
    }
}

impl Default for RedisSettings {
    fn default() -> Self {
        let ms = |ms| NonZeroU64::new(ms).expect("not zero");
        Self {
            url_env: None,
            url_file: None,
            hash_key_env: None,
            hash_key_file: None,
            ca_file: None,
            prefix: "falgate".to_owned(),
            connect_ms: ms(2000),
            timeout_ms: ms(250),
            place_lease_ms: ms(30_000),
            lease: LeaseSettings::default(),
        }
    }
}

impl RedisSettings {
    /// What is wrong with the values, each with its key path inside `[limits]`.
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let one_of = |one: bool, other: bool| one != other;
        if !one_of(self.url_env.is_some(), self.url_file.is_some()) {
            faults.push(("redis.url_env".to_owned(), "or redis.url_file is needed, and only one of them".to_owned()));
        }
        if !one_of(self.hash_key_env.is_some(), self.hash_key_file.is_some()) {
            let why = "or redis.hash_key_file is needed, and only one of them".to_owned();
            faults.push(("redis.hash_key_env".to_owned(), why));
        }
        if self.lease.calls > 1_000_000 {
            faults.push(("redis.lease.calls".to_owned(), "is more than 1000000".to_owned()));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.');
        if self.prefix.is_empty() || self.prefix.len() > 40 || !self.prefix.bytes().all(is_plain) {
            let why = "is not 1 to 40 letters, digits, `-`, `_`, `:` or `.`".to_owned();
            faults.push(("redis.prefix".to_owned(), why));
        }
        faults
    }
}
