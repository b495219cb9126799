//! Limits that several gates share: a Redis or Valkey that decides in one script.
//!
//! All keys carry the hash tag of the prefix, so that one decision is one slot of a cluster: it is atomic there too, and the
//! whole of a prefix lives on one node.

mod charge;
mod connect;
mod debt;
mod lease;
mod places;
mod receipt;
mod share;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{RedisError, Script, ScriptInvocation};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use self::lease::Leases;
use self::places::{Errand, Places};
use super::subject::Share;

pub(super) use self::receipt::SharedReceipt;

/// A Redis or Valkey that several gates share, connected. It connects anew by itself when it was lost. Clones share the
/// connection and the tasks that renew places, which end with the last clone.
#[derive(Debug, Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    charge: Script,
    settle: Script,
    hold: Script,
    look: Script,
    reset: Script,
    /// Under which callers are hashed.
    hash_key: [u8; 32],
    prefix: String,
    timeout: Duration,
    place_lease: Duration,
    places: Arc<Places>,
    leases: Leases,
    errands: mpsc::Sender<Errand>,
    is_down: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why the store did not decide.
#[derive(Debug, thiserror::Error)]
pub(in crate::guard::limit) enum StoreError {
    #[error("the store did not answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("the store cannot be asked")]
    Failed(#[source] RedisError),
    #[error("the store answered with something else")]
    Answer,
}

impl Inner {
    /// The key of a share of a limit, which goes by its name and what it counts: whose it is cannot be read off it without
    /// the hash key.
    fn key(&self, (limit, of): (&str, &str), share: &Share<'_>) -> String {
        let digest = Sha256::new().chain_update(self.hash_key).chain_update(limit).chain_update([0]);
        let digest = digest.chain_update(of).chain_update([0]);
        let digest = digest.chain_update(share.bytes()).finalize();
        let hash = digest[..16].iter().fold(String::with_capacity(32), |text, byte| text + &format!("{byte:02x}"));
        format!("{{{}}}:{limit}:{of}:{hash}", self.prefix)
    }

    /// Runs a script within the time for a decision, and notes whether the store is there.
    async fn run<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        let answer = match tokio::time::timeout(self.timeout, call.invoke_async(&mut connection)).await {
            Ok(answer) => answer.map_err(StoreError::Failed),
            Err(_) => Err(StoreError::Late(self.timeout)),
        };
        match &answer {
            Ok(_) if self.is_down.swap(false, Ordering::Relaxed) => {
                tracing::info!("the store of limits answers again");
            }
            Err(error) if !self.is_down.swap(true, Ordering::Relaxed) => {
                let error: &(dyn std::error::Error + 'static) = error;
                tracing::warn!(error, "the store of limits does not answer");
            }
            Ok(_) | Err(_) => {}
        }
        answer
    }
}
