//! The only room that holds the fal key and dials out.
//!
//! [`FalKeyLayer`] attaches the key, [`UpstreamClient`] dials. Both want a [`TargetUrl`](crate::wire::TargetUrl) in the
//! request: what was not admitted has no address here.

mod address;
mod alarm;
mod client;
mod dial;
mod echo;
mod error;
mod key;
mod key_layer;
mod key_ring;
mod key_source;
mod line;
mod metrics;
mod plain;
mod pool;
mod response_body;
mod sent_body;
mod settings;
mod socket;

pub use address::{Address, AddressError, Addresses};
pub(crate) use alarm::Alarm;
pub use client::{ClientFuture, UpstreamClient};
pub use error::{ClientError, UpstreamError};
pub use key::{FalKey, KeyFault, attach_key};
pub use key_layer::{FalKeyLayer, KeyFuture, WithFalKey};
pub use key_ring::KeyRing;
pub use key_source::{KeyError, KeySource};
pub use metrics::UpstreamMetrics;
pub use settings::UpstreamSettings;
pub use socket::{
    EachInput, InputAccount, InputBudget, InputRules, RelayMetrics, SocketAuth, SocketRelay, SocketRelayLayer,
    SocketSettings,
};
