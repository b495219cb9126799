//! WebSocket frames (RFC 6455 section 5) as a client writes and reads them. Pure, and written apart from the gate's own
//! frames, so that a mistake there does not look right here.

use super::error::LoadError;

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    /// A later fragment.
    Continuation,
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
    /// The goodbye.
    Close,
    /// Wants a pong.
    Ping,
    /// Answers a ping.
    Pong,
}

impl Opcode {
    /// The four bits on the wire.
    pub(crate) const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

/// The first bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Last fragment of its message.
    pub(crate) last: bool,
    /// What it is.
    pub(crate) opcode: Opcode,
    /// The client's mask.
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes of this header.
    pub(crate) header_len: usize,
    /// Bytes that follow it.
    pub(crate) payload_len: usize,
}

impl Header {
    /// Reads a header, `None` while more bytes are needed.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, LoadError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(LoadError::Frame("reserved bits"));
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(LoadError::Frame("unknown opcode"))?;
        let (payload_len, length_bytes) = match second & 0x7f {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let mask = if second & 0x80 == 0 {
            None
        } else {
            match rest[length_bytes..].first_chunk::<4>() {
                Some(mask) => Some(*mask),
                None => return Ok(None),
            }
        };
        let payload_len = usize::try_from(payload_len).map_err(|_| LoadError::Frame("length"))?;
        let header_len = 2 + length_bytes + if mask.is_some() { 4 } else { 0 };
        Ok(Some(Self { last: first & 0x80 != 0, opcode, mask, header_len, payload_len }))
    }

    /// Writes a header.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        into.push(u8::from(self.last) << 7 | self.opcode.bits());
        let masked = u8::from(self.mask.is_some()) << 7;
        match (u8::try_from(self.payload_len), u16::try_from(self.payload_len)) {
            (Ok(short @ ..126), _) => into.push(masked | short),
            (_, Ok(middle)) => {
                into.push(masked | 126);
                into.extend_from_slice(&middle.to_be_bytes());
            }
            (_, Err(_)) => {
                into.push(masked | 127);
                into.extend_from_slice(&(self.payload_len as u64).to_be_bytes());
            }
        }
        into.extend_from_slice(self.mask.as_ref().map_or(&[], |mask| &mask[..]));
    }
}

/// Masks or unmasks in place.
pub(crate) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// One whole frame as a client sends it.
pub(crate) fn client_frame(opcode: Opcode, payload: &[u8], into: &mut Vec<u8>) {
    // The mask keeps proxies between browser and server from being fooled; on loopback any four bytes do.
    let mask = [0x5a, 0x17, 0xc3, 0x88];
    Header { last: true, opcode, mask: Some(mask), header_len: 0, payload_len: payload.len() }.write(into);
    let at = into.len();
    into.extend_from_slice(payload);
    apply_mask(&mut into[at..], mask);
}
