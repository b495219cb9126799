//! Whether one more input of a socket may be rendered, asked of whoever keeps count.

use std::pin::Pin;
use std::time::Duration;

use crate::guard::Subject;

/// Who asks for what, on a socket.
#[derive(Debug, Clone, Copy)]
pub struct FrameAsk<'a> {
    /// Who, and of which app, as the socket's handshake said.
    pub subject: &'a Subject,
    /// How many pictures.
    pub pictures: u32,
}

/// An input that is more than its caller may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget {
    /// When to ask again.
    pub wait: Duration,
}

/// What an input was charged. The charge stands unless it is said that nothing was rendered.
pub trait FrameReceipt: Send {
    /// A newer input took its place before its turn came: it costs nothing.
    fn superseded(self: Box<Self>);

    /// It was read and not rendered: it could not be, or looked like the one before. It costs no picture.
    fn unrendered(self: Box<Self>);
}

/// The answer to a [`FrameAsk`]; without a receipt where nobody keeps count. It may wait for a store that several gates share.
pub type FrameCharge = Pin<Box<dyn Future<Output = Result<Option<Box<dyn FrameReceipt>>, OverBudget>> + Send>>;

/// Keeps count of what callers may have rendered on sockets.
///
/// For bytes it is asked when an input comes, for all else when its turn comes: an input that a newer one supersedes costs
/// its caller no picture.
pub trait FrameBudget: Send + Sync {
    /// Takes the bytes of an input that came.
    ///
    /// # Errors
    /// As [`FrameBudget::charge`].
    fn came(&self, subject: &Subject, bytes: u64) -> Result<(), OverBudget>;

    /// Takes what an input costs. A socket asks for one input at a time, so that none overtakes another; it drops the answer
    /// when the page goes, and the receipt when the input is rendered.
    ///
    /// # Errors
    /// [`OverBudget`] takes nothing; the input is answered `RATE_LIMITED` and the socket lives.
    fn charge(&self, ask: &FrameAsk<'_>) -> FrameCharge;
}
