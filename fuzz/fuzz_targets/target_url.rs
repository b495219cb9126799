//! Whatever the header says, an admitted target is one that would be admitted again in the form that is sent.
#![no_main]

use falgate::wire::{AllowedTargets, Door, EndpointPattern, PlainPath, TargetSettings};
use http::{HeaderValue, Method};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(header) = HeaderValue::from_bytes(data) else { return };
    let endpoints = vec![EndpointPattern::parse("fal-ai/**").expect("a fixed pattern")];
    let allowed = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() });
    let Ok(target) = allowed.admit(Some(&header), &Method::POST) else { return };
    let sent = target.path_and_query().as_str();
    let plain = PlainPath {
        class: target.class(),
        legacy_label: None,
        method: &Method::POST,
        path_and_query: sent,
        door: Door::Http,
    };
    let again = allowed.admit_path(&plain).expect("what is sent is what was admitted");
    assert_eq!(again.path_and_query(), target.path_and_query());
    assert_eq!(again.call(), target.call());
});
