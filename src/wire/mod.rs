//! What fal says, as types. Parsing is the only way to get one; nothing here does I/O or reads a clock.

mod body;
mod budget;
mod call;
mod context;
mod door;
mod endpoint;
mod field_error;
pub mod frame;
#[cfg(feature = "sockets")]
mod handshake;
mod json_input;
mod lcm_input;
mod lcm_output;
mod lenient;
#[cfg(feature = "sockets")]
pub mod message;
mod pattern;
mod problem;
mod socket;
mod target;
mod target_refusal;
mod target_text;
mod token_wish;

pub use body::{Body, BodyError, CollectError, collect};
pub use budget::{MemoryBudget, Reserved};
pub use call::{CallKind, Door, FalCall, HostClass, NoCall};
pub use context::{PublicOrigin, RequestId};
pub use door::host_class;
pub use endpoint::EndpointId;
pub use field_error::FieldError;
#[cfg(feature = "sockets")]
pub use handshake::{HandshakeFault, SocketHandshake, accept_of};
pub use json_input::{fields_of_json, fields_of_query};
pub use lcm_input::{ImageSource, LcmInput, PictureFormat, Seed};
pub use lcm_output::{LcmOutput, OutputImage, RunTimings};
pub use pattern::{EndpointPattern, PatternError};
pub use problem::{MayHaveCost, Problem, ToProblem};
pub use socket::{SocketPass, SocketWishes};
pub use target::{AllowedTargets, PlainPath, Reach, TargetSettings, TargetUrl, TokenIssuer};
pub use target_refusal::TargetRefusal;
pub use token_wish::{TokenWish, WishedApp};

use http::HeaderName;

/// Where a client says which URL its proxied call is for.
pub const TARGET_URL: HeaderName = HeaderName::from_static("x-fal-target-url");
/// The id of a request, on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-fal-request-id");
