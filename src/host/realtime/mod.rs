//! Sockets to the engine (protocol spec 6): a page sends strokes and sees pictures.
//!
//! One task a socket. What comes is decoded at once; of the inputs only the newest waits, one is rendered, one is encoded, and
//! one result waits for a reader that is slow. So a fast pen and a slow reader build no backlog, and a socket that goes takes
//! its work with it at the next step.

mod clock;
mod draw;
mod end;
mod farewell;
mod finish;
mod frame_budget;
mod inbox;
mod line;
mod mailbox;
mod meter;
mod metrics;
mod open;
mod outbox;
mod pace;
mod seat;
mod settings;
mod similar;
mod socket;
mod work;

pub use frame_budget::{FrameAsk, FrameBudget, FrameCharge, FrameReceipt, OverBudget};
pub use metrics::SocketMetrics;
pub use settings::{Farewell, RealtimeSettings};
