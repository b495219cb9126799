//! What a person chooses about hosted apps.

use std::num::{NonZeroU64, NonZeroUsize};

use serde::{Deserialize, Serialize};

use super::WithoutChecker;
use super::fetch::FetchSettings;
use super::pictures::PictureSettings;
use super::realtime::RealtimeSettings;
use super::storage::StorageSettings;
use super::waiting::WaitingSettings;
use crate::wire::EndpointPattern;

/// Answering calls from the embedded engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HostSettings {
    /// Largest body of a run, in bytes. A data URI is a third larger than its picture.
    pub max_body_bytes: NonZeroU64,
    /// Memory that the bodies of all runs may fill together until their pictures are decoded, in bytes. More are refused
    /// with 429.
    pub bodies_bytes: NonZeroU64,
    /// Runs at the same time, from the first byte of the body to the answer. More are refused with 429.
    pub runs_at_once: NonZeroUsize,
    /// Endpoints with a path below the app that are answered like the app itself, as globs:
    /// "fal-ai/fast-lcm-diffusion/image-to-image". Any other path below an app is a 404.
    pub paths: Vec<EndpointPattern>,
    /// What becomes of requests that ask for safety checks while the model has no safety checker: `warn` serves them unchecked,
    /// with the header `x-falgate-warning: safety-checker-missing`, or a field `warning` on a socket; `refuse` answers 422.
    /// Requests that do not say ask for checks, as with fal.
    pub without_safety_checker: WithoutChecker,
    /// How pictures are read, fitted and written.
    pub pictures: PictureSettings,
    /// How pictures are fetched from the URLs that callers name.
    pub fetch: FetchSettings,
    /// Files that the gate keeps in memory.
    pub storage: StorageSettings,
    /// Sockets that the engine answers. What pages send on them shares `bodies_bytes`.
    pub realtime: RealtimeSettings,
    /// Places at the engine, and a queue for who finds none.
    pub waiting_room: WaitingSettings,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            max_body_bytes: NonZeroU64::new(32 * 1024 * 1024).expect("not zero"),
            bodies_bytes: NonZeroU64::new(256 * 1024 * 1024).expect("not zero"),
            runs_at_once: NonZeroUsize::new(128).expect("not zero"),
            paths: Vec::new(),
            without_safety_checker: WithoutChecker::default(),
            pictures: PictureSettings::default(),
            fetch: FetchSettings::default(),
            storage: StorageSettings::default(),
            realtime: RealtimeSettings::default(),
            waiting_room: WaitingSettings::default(),
        }
    }
}

impl HostSettings {
    /// What is wrong with the values, each with its key inside this table: `pictures.jpeg_quality`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let tables = [
            ("pictures", self.pictures.faults()),
            ("fetch", self.fetch.faults()),
            ("storage", self.storage.faults()),
            ("realtime", self.realtime.faults()),
            ("waiting_room", self.waiting_room.faults()),
        ];
        let prefixed = |(table, faults): (&'static str, Vec<(String, String)>)| {
            faults.into_iter().map(move |(key, what)| (format!("{table}.{key}"), what))
        };
        let mut faults: Vec<(String, String)> = tables.into_iter().flat_map(prefixed).collect();
        if self.bodies_bytes < self.max_body_bytes {
            let what = format!("{} is less than max_body_bytes, {}", self.bodies_bytes, self.max_body_bytes);
            faults.push(("bodies_bytes".to_owned(), what));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(HostSettings::default().faults(), []);
    }

    #[test]
    fn all_faults_come_together_with_their_keys() {
        let mut settings = HostSettings::default();
        settings.pictures.jpeg_quality = NonZeroU8::new(101).unwrap();
        settings.fetch.ports = vec![0];
        settings.storage.max_bytes = NonZeroU64::new(1).unwrap();
        settings.bodies_bytes = NonZeroU64::new(1).unwrap();
        let keys: Vec<String> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["pictures.jpeg_quality", "fetch.ports", "storage.max_bytes", "bodies_bytes"]);
    }
}
