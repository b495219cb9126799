//! Checks what only the whole configuration can tell, after each room has checked its own.

use super::{Config, Fault};

/// Everything that is wrong with settings that could be read.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    room(&mut faults, "gate", config.gate.faults());
    faults
}

/// Puts a room's name before the keys that it found at fault.
fn room(faults: &mut Vec<Fault>, name: &str, found: Vec<(String, String)>) {
    faults.extend(found.into_iter().map(|(key, what)| Fault::new(format!("{name}.{key}"), what)));
}
