//! Where ONNX Runtime may be on this machine.

use std::path::PathBuf;

use falgate::config::Environment;
use falgate::engine::Provider;
use falgate::engine::onnx::{LibraryPlaces, cached};

/// The setting, then `ORT_DYLIB_PATH`, then what the fetch script left in a `target` folder: the one of the working
/// directory, or the one that this program was built in.
pub(super) fn places(configured: Option<PathBuf>, provider: Provider, environment: &Environment) -> LibraryPlaces {
    let program = std::env::current_exe().ok();
    let built_in = program.as_deref().and_then(|program| program.parent()?.parent()).map(PathBuf::from);
    let targets: Vec<PathBuf> = [PathBuf::from("target")].into_iter().chain(built_in).collect();
    LibraryPlaces {
        configured,
        variable: environment.look_up("ORT_DYLIB_PATH").map(PathBuf::from),
        caches: cached(&targets, provider),
    }
}
