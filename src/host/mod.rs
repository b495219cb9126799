//! Answers as fal would, from an engine.

pub mod fetch;
pub mod pictures;
pub mod realtime;
pub mod storage;
pub mod store;
pub mod waiting;

mod answer;
mod deadline;
mod input;
mod load;
mod problem;
mod run;
mod safety;
mod service;
mod settings;

pub use problem::{HostError, PictureName};
pub use safety::WithoutChecker;
pub use service::HostService;
pub use settings::HostSettings;

use service::Host;
