//! Turns a browser's proxy call into a plain fal call. It never sees the key.
//!
//! [`FalProxyLayer`] wraps any client service. It reads `x-fal-target-url`, admits it, checks the input against the
//! operator's policy, strips whatever fal must not see, and hands on a request that carries a
//! [`TargetUrl`](crate::wire::TargetUrl).

mod admitted;
mod field_rule;
mod forward;
mod limit;
mod policy;
mod rewrite;
mod service;
mod settings;
mod token_body;

pub use field_rule::{FieldRule, Outside};
pub use forward::ProxyFuture;
pub use policy::{Policies, PolicySettings};
pub use rewrite::{Sends, rewrite_request, rewrite_response};
pub use service::{FalProxy, FalProxyLayer};
pub use settings::ProxySettings;
