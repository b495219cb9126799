//! Reads a table into settings and goes on after each fault, so that a person hears of all of them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Deserializer, Track};
use toml::{Table, Value};

use super::fault::Fault;
use super::key_path::{KeyPath, Step};
use super::overlay::Overlay;

/// More faults than that are not worth reading.
const MAX_FAULTS: usize = 64;

/// What could be read, and what could not.
pub(super) struct Gathered<T> {
    /// The settings without the values at fault; `None` if even that is none.
    pub(super) settings: Option<T>,
    /// Values that do not fit, keys that do not exist.
    pub(super) faults: Vec<Fault>,
}

/// Reads the table. A value at fault is recorded, taken out, and the rest is read again.
pub(super) fn gather<T: DeserializeOwned>(mut root: Table, overlay: &mut Overlay) -> Gathered<T> {
    let mut faults = Vec::new();
    let mut removed = Removed::default();
    let mut before_retry: Option<(KeyPath, String)> = None;
    loop {
        let (path, error) = match read::<T>(Value::Table(root.clone())) {
            Ok(settings) => return Gathered { settings: Some(settings), faults },
            Err(failed) => failed,
        };
        let mut what = error.trim().replace("unknown field", "unknown key");
        match &before_retry {
            // The text did not fit either: what was wrong with the value says more.
            Some((retried, first)) if *retried == path => what.clone_from(first),
            _ if overlay.retry_as_text(&path, &mut root) => {
                before_retry = Some((path, what));
                continue;
            }
            _ => {}
        }
        let written = removed.as_written(&path);
        faults.push(overlay.fault(&written, what.replace("missing field", "missing key")));
        if faults.len() == MAX_FAULTS || path.remove(&mut root).is_none() {
            return Gathered { settings: None, faults };
        }
        removed.note(written);
    }
}

/// Reads the settings, or says where and why it stopped.
///
/// The deserializer's type is erased: the settings are many types, and each would be compiled, and kept in memory, once more
/// for each layer of it.
fn read<T: DeserializeOwned>(root: Value) -> Result<T, (KeyPath, String)> {
    let mut track = Track::new();
    let mut tracked = <dyn erased_serde::Deserializer<'_>>::erase(Deserializer::new(root, &mut track));
    let read = erased_serde::deserialize(&mut tracked).map_err(|error: erased_serde::Error| error.to_string());
    drop(tracked);
    read.map_err(|what| (KeyPath::from(&track.path()), what))
}

/// List places that were taken out, so that later faults still count as the file does.
#[derive(Default)]
struct Removed(BTreeMap<KeyPath, Vec<usize>>);

impl Removed {
    fn note(&mut self, path: KeyPath) {
        let KeyPath(mut steps) = path;
        if let Some(Step::At(index)) = steps.pop() {
            let places = self.0.entry(KeyPath(steps)).or_default();
            places.push(index);
            places.sort_unstable();
        }
    }

    /// The path as it was before anything was taken out.
    fn as_written(&self, path: &KeyPath) -> KeyPath {
        path.0.iter().fold(KeyPath::default(), |walked, step| match step {
            Step::Key(key) => walked.key(key),
            Step::At(index) => {
                let gone = self.0.get(&walked).map_or(&[][..], Vec::as_slice);
                let index = gone.iter().fold(*index, |index, place| if *place <= index { index + 1 } else { index });
                walked.at(index)
            }
        })
    }
}
