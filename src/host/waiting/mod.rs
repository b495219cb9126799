//! A waiting room in front of the engine: places, and a queue in order for who finds none.

mod metrics;
mod place;
mod room;
mod settings;

pub use metrics::WaitingMetrics;
pub use place::{Guest, Place, Turned, Wait, WaitingRoom};
pub use room::Standing;
pub use settings::WaitingSettings;
