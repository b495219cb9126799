//! Small layers that every request passes, outermost first.

mod catch_panic;
mod origin;
mod request_id;

pub use catch_panic::{CatchPanic, CatchPanicFuture};
pub use origin::{MarkOrigin, Origins};
pub use request_id::{MarkId, MarkIdFuture};
