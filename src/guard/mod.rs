//! Who may come in, how often, at what cost.

mod address;

pub use address::PeerAddr;
