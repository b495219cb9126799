//! An endpoint id that was read is read again as the same one, and patterns never panic.
#![no_main]

use falgate::wire::{EndpointId, EndpointPattern};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let (left, right) = data.split_once(' ').unwrap_or((data, data));
    if let Some(id) = EndpointId::parse(left) {
        assert_eq!(EndpointId::parse(id.as_str()).as_ref(), Some(&id));
        if let Ok(pattern) = EndpointPattern::parse(right) {
            let _ = (pattern.matches(&id), pattern.matches_app(&id), pattern.matches_alias(id.as_str()));
        }
    }
});
