//! HTTP/2 by hand: frames as bytes, and what comes back.

use falgate::gate::accept::LimitSettings;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;

use crate::edge_probe::in_memory;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `GET /`, host `a`, from HPACK's static table.
pub(crate) const GET: [u8; 6] = [0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
/// `POST /`, host `a`.
pub(crate) const POST: [u8; 6] = [0x83, 0x84, 0x86, 0x41, 0x01, b'a'];
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// The flags of a request without a body.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field that no table keeps, with both texts shorter than 127 bytes.
pub(crate) fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |text: &[u8]| u8::try_from(text.len()).ok().filter(|length| *length < 127).unwrap();
    [&[0x00, length(name)], name, &[length(value)], value].concat()
}

/// A connection in memory that has said the preface and its settings.
pub(crate) async fn raw(limits: &LimitSettings) -> (DuplexStream, JoinHandle<()>) {
    let (mut client, served) = in_memory(limits, 1024 * 1024);
    client.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    (client, served)
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Came {
    /// The error code of a reset or of a goodbye.
    pub(crate) fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().unwrap()))
    }
}

/// The next frame; none when the connection has ended.
pub(crate) async fn next(read: &mut (impl AsyncRead + Unpin)) -> Option<Came> {
    let mut head = [0; 9];
    read.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    read.read_exact(&mut payload).await.ok()?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Some(Came { kind: head[3], flags: head[4], stream, payload })
}

/// Reads frames until the connection ends; the error codes of its GOAWAYs.
pub(crate) async fn goaways(mut read: impl AsyncRead + Unpin) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some(came) = next(&mut read).await {
        codes.extend(came.code().filter(|_| came.kind == GOAWAY));
    }
    codes
}

/// Answers pings and settings, as a client does that means well, until the connection ends.
pub(crate) async fn polite(client: DuplexStream) {
    let (mut read, mut write) = tokio::io::split(client);
    while let Some(came) = next(&mut read).await {
        let answer = match (came.kind, came.flags & ACK) {
            (PING, 0) => frame(PING, ACK, 0, &came.payload),
            (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
            _ => continue,
        };
        if write.write_all(&answer).await.is_err() {
            return;
        }
    }
}
