//! From `--config` and the environment to a checked configuration.

use falgate::config::{Config, Environment};

use super::arguments::ConfigFile;
use super::exit::Failure;

/// Reads the file, if one is named, and checks everything.
pub(super) fn load(file: &ConfigFile, environment: &Environment) -> Result<Config, Failure> {
    let text = match &file.config {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|cause| Failure::Unreadable { path: path.clone(), cause })?
        }
        None => String::new(),
    };
    Config::load(&text, environment).map_err(|faults| Failure::Configuration { faults })
}
