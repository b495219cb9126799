//! A head that the framer lets through has one meaning, is whole, and reads the same in two pieces as in one.
#![no_main]

use falgate::gate::accept::framing::{HeadLimits, HeadScanner};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, target_bytes: 1024, fields: 32 };

fuzz_target!(|data: (u16, &[u8])| {
    let (cut, bytes) = data;
    let whole = HeadScanner::default().scan(bytes, &LIMITS);
    let mut scanner = HeadScanner::default();
    let cut = usize::from(cut).min(bytes.len());
    match scanner.scan(&bytes[..cut], &LIMITS) {
        Ok(None) => assert_eq!(scanner.scan(bytes, &LIMITS), whole),
        // A limit may be crossed before the line at fault is complete.
        Err(_) => assert!(whole.is_err()),
        early => assert_eq!(early, whole),
    }
    let Ok(Some(head)) = whole else { return };
    let text = &bytes[..head.len];
    assert!(text.ends_with(b"\r\n\r\n"));
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), text.windows(2).filter(|end| end == b"\r\n").count());
});
