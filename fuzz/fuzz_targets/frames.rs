//! A direction of a socket means the same in two pieces as in one, and its steps never reach past its bytes.
#![no_main]

use falgate::wire::frame::{FrameEvent, FrameHeader, FrameLimits, FrameSender, FrameWalker};
use libfuzzer_sys::fuzz_target;

const LIMITS: FrameLimits = FrameLimits { frame_bytes: 1 << 20, message_bytes: 1 << 20, fragments: 16 };

/// What passed, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    headers: Vec<FrameHeader>,
    payload: u64,
    ends: usize,
    fault: bool,
}

fn walk(sender: FrameSender, pieces: [&[u8]; 2]) -> Seen {
    let (mut walker, mut seen, mut kept) = (FrameWalker::new(sender, LIMITS), Seen::default(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match walker.step(&kept[at..]) {
                Ok(Some(step)) => {
                    at += step.bytes;
                    match step.event {
                        FrameEvent::Header(header) => seen.headers.push(header),
                        FrameEvent::Payload(bytes) => seen.payload += bytes as u64,
                        FrameEvent::End(_) => seen.ends += 1,
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    seen.fault = true;
                    return seen;
                }
            }
        }
        kept.drain(..at);
        assert!(kept.len() < FrameHeader::MAX_BYTES);
    }
    seen
}

fuzz_target!(|data: (bool, u16, &[u8])| {
    let (is_client, cut, bytes) = data;
    let sender = if is_client { FrameSender::Client } else { FrameSender::Server };
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    assert_eq!(walk(sender, [first, second]), walk(sender, [bytes, &[]]));
});
