//! The page that people open first, and the script that leads fal's sockets to the gate. Both are embedded in the binary.

mod assets;
mod service;
mod settings;

pub use service::Playground;
pub use settings::PlaygroundSettings;
