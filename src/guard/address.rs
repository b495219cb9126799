//! Where a request comes from.

use std::net::SocketAddr;

/// The other end of the connection. Set by the gate on every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);
