//! What must hold for any bytes at all: one function a fuzz target. `tests/it/fuzz_corpus.rs` runs them over the seeds, so
//! that a hole that was found once stays shut.

use falgate::gate::accept::framing::{ChunkScanner, Framer, HeadLimits, HeadScanner, Phase};
use falgate::wire::{AllowedTargets, Door, EndpointId, EndpointPattern, PlainPath, TargetSettings};
use http::{HeaderValue, Method};

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, target_bytes: 1024, fields: 32 };

/// An endpoint id that was read is read again as the same one, and patterns never panic.
pub(crate) fn endpoint(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (left, right) = text.split_once(' ').unwrap_or((text, text));
    if let Some(id) = EndpointId::parse(left) {
        assert_eq!(EndpointId::parse(id.as_str()).as_ref(), Some(&id));
        if let Ok(pattern) = EndpointPattern::parse(right) {
            let _ = (pattern.matches(&id), pattern.matches_app(&id), pattern.matches_alias(id.as_str()));
        }
    }
}

/// The first two bytes say where the rest is cut.
fn cut(data: &[u8]) -> Option<(usize, &[u8])> {
    let (at, bytes) = data.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_be_bytes(*at)).min(bytes.len()), bytes))
}

/// A chunked body ends at the same byte in two pieces as in one, and its end looks like one.
pub(crate) fn http1_chunks(data: &[u8]) {
    let Some((cut, bytes)) = cut(data) else { return };
    let whole = ChunkScanner::default().scan(bytes);
    let mut scanner = ChunkScanner::default();
    match scanner.scan(&bytes[..cut]) {
        Ok(None) => assert_eq!(scanner.scan(&bytes[cut..]).map(|end| end.map(|end| end + cut)), whole),
        early => assert_eq!(early, whole),
    }
    if let Ok(Some(end)) = whole {
        assert!(bytes[..end].ends_with(b"\r\n\r\n"));
    }
}

/// A head that the framer lets through has one meaning, is whole, and reads the same in two pieces as in one.
pub(crate) fn http1_head(data: &[u8]) {
    let Some((cut, bytes)) = cut(data) else { return };
    let whole = HeadScanner::default().scan(bytes, &LIMITS);
    let mut scanner = HeadScanner::default();
    match scanner.scan(&bytes[..cut], &LIMITS) {
        Ok(None) => assert_eq!(scanner.scan(bytes, &LIMITS), whole),
        // A limit may be crossed before the line at fault is complete.
        Err(_) => assert!(whole.is_err()),
        early => assert_eq!(early, whole),
    }
    let Ok(Some(head)) = whole else { return };
    let text = &bytes[..head.len];
    assert!(text.ends_with(b"\r\n\r\n"));
    assert_eq!(
        text.iter().filter(|byte| **byte == b'\n').count(),
        text.windows(2).filter(|end| end == b"\r\n").count()
    );
}

/// Whatever arrives, in whatever pieces: nothing is handed on twice, nothing is left out, and a fault is final. The first
/// byte says how large the pieces are.
pub(crate) fn http1_messages(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let mut framer = Framer::new(LIMITS);
    let mut waiting = Vec::new();
    for piece in bytes.chunks(usize::from(*size).max(1)) {
        waiting.extend_from_slice(piece);
        loop {
            match framer.admit(&waiting) {
                Ok(taken) if taken.bytes == 0 => break,
                Ok(taken) => drop(waiting.drain(..taken.bytes)),
                Err(fault) => {
                    assert_eq!(framer.phase(), Phase::Broken);
                    assert_eq!(framer.admit(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), Err(fault));
                    return;
                }
            }
        }
        assert!(waiting.len() <= LIMITS.bytes || framer.phase() == Phase::Held);
    }
}

/// Whatever the header says, an admitted target is one that would be admitted again in the form that is sent.
pub(crate) fn target_url(data: &[u8]) {
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
}
