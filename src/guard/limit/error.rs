//! Why limits cannot be kept.

use super::ledger::LedgerError;

/// Why limits cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A value of the settings cannot work.
    #[error("limits.{key} {why}")]
    Setting {
        /// Key path inside `[limits]`.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The ledger cannot be opened.
    #[error("the ledger of budgets in {file} cannot be used (limits.ledger)")]
    Ledger {
        /// The file.
        file: String,
        /// Why not.
        #[source]
        cause: LedgerError,
    },
    /// A secret of the store cannot be had.
    #[error("{place} cannot be used (limits.redis.{key})")]
    Secret {
        /// Key inside `[limits.redis]`.
        key: &'static str,
        /// The variable or the file.
        place: String,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store does not answer.
    #[error("the Redis of limits cannot be reached (limits.redis)")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}
