//! The door of sockets: a handshake becomes the plain call that it asks for, once it is clear who may have it.

mod door;
mod entrance;
mod metrics;
mod query;
mod settings;
mod turn_away;

pub use door::SocketDoor;
pub use entrance::{Admission, Entrance};
pub use metrics::SocketDoorMetrics;
pub use settings::SocketSettings;
