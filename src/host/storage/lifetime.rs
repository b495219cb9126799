//! How long a file is wanted (protocol spec 8.5).

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

use super::StorageSettings;

const HEADERS: [&str; 2] = ["x-fal-object-lifecycle", "x-fal-object-lifecycle-preference"];

/// The life that the request's lifecycle header asks for, at most `keep_s`; `keep_s` without one or with an odd one.
pub(super) fn wanted(headers: &HeaderMap, settings: &StorageSettings) -> Duration {
    let most = settings.keep_s.get();
    let asked = HEADERS.iter().filter_map(|name| headers.get(*name)).find_map(|value| {
        let preference: Value = serde_json::from_slice(value.as_bytes()).ok()?;
        preference.get("expiration_duration_seconds")?.as_f64()
    });
    Duration::from_secs(asked.map_or(most, |seconds| (seconds.max(1.0) as u64).min(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_shorten_a_files_life_but_not_stretch_it() {
        let life = |header: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-fal-object-lifecycle", header.parse().unwrap());
            wanted(&headers, &StorageSettings::default()).as_secs()
        };
        assert_eq!(life(r#"{"expiration_duration_seconds":60}"#), 60);
        assert_eq!(life(r#"{"expiration_duration_seconds":3153600000}"#), 3600);
        assert_eq!(life(r#"{"expiration_duration_seconds":-5}"#), 1);
        assert_eq!(life(r#"{"initial_acl":{"default":"hide"}}"#), 3600);
        assert_eq!(life("immediate"), 3600);
    }
}
