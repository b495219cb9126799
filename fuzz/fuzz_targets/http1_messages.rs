//! Whatever arrives, in whatever pieces: nothing is handed on twice, nothing is left out, and a fault is final.
#![no_main]

use falgate::gate::accept::framing::{Framer, HeadLimits, Phase};
use libfuzzer_sys::fuzz_target;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, target_bytes: 1024, fields: 32 };

fuzz_target!(|pieces: Vec<&[u8]>| {
    let mut framer = Framer::new(LIMITS);
    let mut waiting = Vec::new();
    for piece in pieces {
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
});
