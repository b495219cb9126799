//! A chunked body ends at the same byte in two pieces as in one, and its end looks like one.
#![no_main]

use falgate::gate::accept::framing::ChunkScanner;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (u16, &[u8])| {
    let (cut, bytes) = data;
    let whole = ChunkScanner::default().scan(bytes);
    let mut scanner = ChunkScanner::default();
    let cut = usize::from(cut).min(bytes.len());
    match scanner.scan(&bytes[..cut]) {
        Ok(None) => assert_eq!(scanner.scan(&bytes[cut..]).map(|end| end.map(|end| end + cut)), whole),
        early => assert_eq!(early, whole),
    }
    if let Ok(Some(end)) = whole {
        assert!(bytes[..end].ends_with(b"\r\n\r\n"));
    }
});
