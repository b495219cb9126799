//! The connection edge: listens, frames strictly, holds clients to deadlines and limits, and drains.
//!
//! Needs nothing; adds [`PeerAddr`](crate::guard::PeerAddr) to each request. The first service must be
//! [`RefusalLayer`]'s, or sit outside of one: refused requests come as stand-ins that only it knows.

mod connection_metrics;
mod connections;
mod deadline;
pub mod framing;
mod http1;
mod http2;
mod io;
mod listener;
mod paced;
mod proxied;
mod quick;
mod refusal;
mod request;
mod server;
mod service;
mod settings;
mod stalls;
mod tls;

pub use connections::{AddressBlock, Connections, Pass, Stage, TooMany};
pub use listener::Listener;
pub use refusal::{Refusal, RefusalLayer, refusal};
pub use server::{DrainReport, EdgeServer};
pub use settings::{DrainSettings, LimitSettings, ProxyProtocol, TlsSettings};
pub use tls::{TlsError, TlsKeeper};
