//! What a direction asks of whoever knows what its frames mean.

use super::End;
use crate::wire::frame::{FrameFault, FrameHeader};

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It goes on as it comes.
    Pass,
    /// It is held back until it is whole, and handed to the watch.
    Take,
    /// It goes no further as it is: the watch gets its payload as it comes, and says at its end what goes on instead.
    Read,
    /// It goes no further: its bytes are dropped as they come.
    Skip,
}

/// What a direction means. It sees every frame.
pub(super) trait Watch {
    /// A frame begins. `raw` is its header as it came.
    fn begins(&mut self, header: &FrameHeader, raw: &[u8]) -> Treatment;
    /// A part of the payload of a frame that passes or is read.
    fn passes(&mut self, part: &[u8]);
    /// A frame that was taken is whole: header and payload; or one that was read: then `frame` is empty. What is to go on in
    /// its place is put into `out`.
    ///
    /// # Errors
    /// How the socket ends, if it does.
    fn taken(&mut self, header: &FrameHeader, frame: &[u8], out: &mut Vec<u8>) -> Result<(), End>;
    /// A frame of the other side's making that breaks the rules.
    fn fault(&self, fault: FrameFault) -> End;
    /// The sender has ended or broken off.
    fn sender_lost(&self) -> End;
    /// The receiver takes nothing any more. `None` where the other direction will tell why.
    fn receiver_lost(&self) -> Option<End>;
}

/// Where a direction stops so that something else can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It goes on.
    Never,
    /// After the frame under way.
    AfterFrame,
    /// After the message under way.
    AfterMessage,
}
