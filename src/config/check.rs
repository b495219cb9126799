//! Checks what only the whole configuration can tell, after each room has checked its own.

use std::path::Path;

use super::{Config, Environment, Fault};
use crate::gate::Destination;

/// Everything that is wrong with settings that could be read.
pub(super) fn faults(config: &Config, environment: &Environment) -> Vec<Fault> {
    let mut faults = Vec::new();
    room(&mut faults, "gate", config.gate.faults());
    room(&mut faults, "engine", config.engine.faults());
    routes(&mut faults, config);
    files(&mut faults, config, environment);
    faults
}

/// Puts a room's name before the keys that it found at fault.
fn room(faults: &mut Vec<Fault>, name: &str, found: Vec<(String, String)>) {
    faults.extend(found.into_iter().map(|(key, what)| Fault::new(format!("{name}.{key}"), what)));
}

/// Every row leads somewhere, and someone leads to the engine.
fn routes(faults: &mut Vec<Fault>, config: &Config) {
    for (index, row) in config.route.iter().enumerate() {
        match row.to {
            Destination::Engine if !config.engine.enabled => {
                let what = format!("`{}` goes to the engine, but engine.enabled is false", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].to"), what));
            }
            Destination::Upstream if row.spill.is_some() => {
                let what = format!("`{}` goes upstream already; only rows to the engine spill", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].spill"), what));
            }
            Destination::Engine | Destination::Upstream => {}
        }
    }
    if config.engine.enabled && config.route.iter().all(|row| row.to != Destination::Engine) {
        faults.push(Fault::new("engine.enabled", "is true, but no [[route]] leads to the engine"));
    }
}

/// Files and folders that are named are there.
fn files(faults: &mut Vec<Fault>, config: &Config, environment: &Environment) {
    let mut look = |key: &str, path: Option<&Path>| {
        if let Some(path) = path.filter(|path| environment.lacks(path)) {
            faults.push(Fault::new(key, format!("{} is not there", path.display())));
        }
    };
    if config.engine.enabled {
        look("engine.model", config.engine.model.as_deref().filter(|model| !model.as_os_str().is_empty()));
        look("engine.library", config.engine.library.as_deref());
        for folder in &config.engine.cuda_libraries {
            look("engine.cuda_libraries", Some(folder));
        }
    }
}
