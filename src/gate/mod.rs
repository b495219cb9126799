//! Puts the rooms together; the only place with an order.

pub mod accept;
mod admin;
mod assemble;
mod cautions;
mod direct;
mod frame_limits;
mod health;
pub mod layers;
mod optional;
mod public_health;
mod reload;
mod route_table;
mod routes;
mod serve;
mod settings;
mod socket_rules;
pub mod sockets;
mod stack;
mod steer;
mod token_route;

pub use admin::{ADMIN_HEADER, Admin};
pub use assemble::{AssembleError, Assembled, GateService, Outside, assemble};
pub use cautions::cautions;
pub use direct::DirectDoor;
pub use health::{EngineReadiness, Readiness};
pub use optional::Optional;
pub use reload::{Reread, RereadError};
pub use route_table::{Decision, Destination, RouteSettings, RouteTable, Spill};
pub use routes::Routes;
pub use serve::{Bound, Orders, ServeError, bind, rehearse, serve};
pub use settings::{GateSettings, Uploads};
pub use stack::{Layers, stack};
pub use steer::{Steer, SteerFuture};
pub use token_route::{TokenAnswer, TokenRoute};
