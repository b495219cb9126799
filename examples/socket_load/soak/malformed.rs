//! Frames that no client may send (RFC 6455 sections 5 and 7), and messages that make no sense.

use crate::frame::{Opcode, client_frame};

/// What a server does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Closes the socket.
    Closed,
    /// Answers with an error and stays, or closes.
    Answered,
}

/// Name, bytes, fate. A relay passes the last ones on, and its upstream answers.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>, Fate)> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let masked = |first: u8, payload: &[u8]| {
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    };
    let message = |opcode, payload: &[u8]| {
        let mut frame = Vec::new();
        client_frame(opcode, payload, &mut frame);
        frame
    };
    let mut endless = vec![0x82, 0xff];
    endless.extend_from_slice(&(u64::MAX >> 2).to_be_bytes());
    endless.extend_from_slice(&MASK);
    let mut long_ping = vec![0x89, 0xfe, 0, 200];
    long_ping.extend_from_slice(&[0; 204]);
    vec![
        ("not masked", b"\x82\x02hi".to_vec(), Fate::Closed),
        ("reserved opcode", masked(0x83, b"hi"), Fate::Closed),
        ("reserved bit", masked(0xc2, b"hi"), Fate::Closed),
        ("continuation of nothing", masked(0x80, b"hi"), Fate::Closed),
        ("fragmented ping", masked(0x09, b"hi"), Fate::Closed),
        ("long ping", long_ping, Fate::Closed),
        ("endless message", endless, Fate::Closed),
        ("message inside a message", [masked(0x01, b"a"), masked(0x81, b"b")].concat(), Fate::Closed),
        ("no JSON", message(Opcode::Text, b"{\"prompt\":"), Fate::Answered),
        ("no msgpack", message(Opcode::Binary, &[0xc1; 40]), Fate::Answered),
        ("nothing at all", message(Opcode::Binary, b""), Fate::Answered),
        ("wrong fields", message(Opcode::Text, b"{\"prompt\":7,\"strength\":\"high\"}"), Fate::Answered),
    ]
}
