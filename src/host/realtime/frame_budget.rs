//! Whether one more input of a socket may be rendered, asked of whoever keeps count.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::guard::Caller;
use crate::wire::EndpointId;

/// Who asks for what, on a socket.
#[derive(Debug, Clone, Copy)]
pub struct FrameAsk<'a> {
    /// Who, where that is known.
    pub caller: Option<&'a Caller>,
    /// From where, behind trusted proxies.
    pub client: Option<IpAddr>,
    /// Of which app.
    pub endpoint: Option<&'a EndpointId>,
    /// How many pictures.
    pub pictures: u32,
}

/// An input that is more than its caller may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget {
    /// When to ask again.
    pub wait: Duration,
}

/// The answer to a [`FrameAsk`]. It may wait for a store that several gates share.
pub type FrameCharge = Pin<Box<dyn Future<Output = Result<(), OverBudget>> + Send>>;

/// Keeps count of what callers may have rendered on sockets.
///
/// It is asked when an input's turn comes, not when it comes: an input that a newer one
/// supersedes costs its caller nothing.
pub trait FrameBudget: Send + Sync {
    /// Takes what an input costs. A socket asks for one input at a time, so that none overtakes another; it drops the answer
    /// when the page goes.
    ///
    /// # Errors
    /// [`OverBudget`] takes nothing; the input is answered `RATE_LIMITED` and the socket lives.
    fn charge(&self, ask: &FrameAsk<'_>) -> FrameCharge;
}
