//! falgate: a guarded key proxy for fal.ai and a self-hosted real-time image engine that speaks fal's protocols.
//!
//! The rooms of the house and who may import whom stand in `docs/ARCHITECTURE.md`.

pub mod wire;

#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "server")]
pub mod gate;
#[cfg(feature = "guard")]
pub mod guard;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "playground")]
pub mod playground;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "upstream")]
pub mod upstream;
