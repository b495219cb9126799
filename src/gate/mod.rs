//! Puts the rooms together; the only place with an order.

pub mod accept;
mod admin;
mod direct;
mod health;
mod route_table;
mod routes;
mod settings;
mod steer;

pub use admin::Admin;
pub use direct::DirectDoor;
pub use health::{EngineReadiness, Readiness};
pub use route_table::{Decision, Destination, RouteSettings, RouteTable, Spill};
pub use routes::Routes;
pub use settings::{GateSettings, Uploads};
pub use steer::{Steer, SteerFuture};
