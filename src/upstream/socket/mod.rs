//! Sockets that are steered upstream: fal's own is opened with a token or the key, and relayed frame by frame.
//!
//! The client gets nothing of fal's: its handshake is answered here, and neither token nor key is in any frame.

mod budget;
mod control;
mod dial;
mod error;
mod judge;
mod metrics;
mod open;
mod relay;
mod rules;
mod service;
mod settings;
mod shake;
mod token;
mod tunnel;

pub use budget::{EachInput, InputAccount, InputBudget};
pub use metrics::RelayMetrics;
pub use rules::InputRules;
pub use service::{SocketRelay, SocketRelayLayer};
pub use settings::{SocketAuth, SocketSettings};
