//! What an operator may set about sockets, whoever answers them.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

/// Sockets in general. How they are served is set where they are answered: `host.realtime` and `upstream.sockets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SocketSettings {
    /// Sockets that may be open at once. One more is answered 503.
    pub open: NonZeroUsize,
    /// Sockets that one client address (one /64 of IPv6) may have open at once, as `guard.address` finds it. One more is
    /// answered 429.
    pub per_address: NonZeroUsize,
}

impl Default for SocketSettings {
    fn default() -> Self {
        let size = |value| NonZeroUsize::new(value).expect("defaults are not zero");
        Self { open: size(8192), per_address: size(64) }
    }
}
