//! Puts the rooms together; the only place with an order.

mod direct;
mod route_table;
mod steer;

pub use direct::DirectDoor;
pub use route_table::{Decision, Destination, RouteSettings, RouteTable, Spill};
pub use steer::{Steer, SteerFuture};
