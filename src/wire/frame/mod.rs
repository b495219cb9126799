//! WebSocket frames (RFC 6455, section 5) as a tunnel sees them: headers are read, payloads are counted and passed by.

mod close;
mod header;
mod walker;
mod write;

pub use close::{CloseFault, CloseReason, close_code};
pub use header::{FrameFault, FrameHeader, FrameSender, Opcode};
pub use walker::{FrameEvent, FrameLimits, FrameWalker, Step};
pub use write::{apply_mask, write_close, write_frame};
