//! The 2 to 14 bytes in front of a payload.

/// Who sends the frames of a direction. Clients mask what they send, servers do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSender {
    /// The side that opened the socket.
    Client,
    /// The side that accepted it.
    Server,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// The next part of a message.
    Continuation,
    /// The first part of a text message.
    Text,
    /// The first part of a binary message.
    Binary,
    /// The last frame of a side.
    Close,
    /// A question whether the other side lives.
    Ping,
    /// The answer to it.
    Pong,
}

impl Opcode {
    /// Close, ping and pong: short, never split, and allowed between the parts of a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    const fn read(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    pub(super) const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }
}

/// Why bytes are no frame that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameFault {
    /// A reserved bit is set though no extension was agreed on.
    #[error("a reserved bit is set")]
    Reserved,
    /// An opcode that means nothing.
    #[error("opcode {0:#x} is unknown")]
    Opcode(u8),
    /// A close, ping or pong of more than 125 bytes, or one that is to be continued.
    #[error("a control frame is too long or in parts")]
    Control,
    /// A client's frame without a mask.
    #[error("a frame of the client is not masked")]
    Unmasked,
    /// A server's frame with a mask.
    #[error("a frame of the server is masked")]
    Masked,
    /// A length that is written in more bytes than it needs, or that is no length.
    #[error("the length of a frame is malformed")]
    Length,
    /// A continuation of nothing, or a new message inside of another.
    #[error("a message begins or goes on out of turn")]
    Order,
    /// A frame of more bytes than allowed.
    #[error("a frame is larger than {limit} bytes")]
    FrameTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A message of more bytes than allowed, over all of its frames.
    #[error("a message is larger than {limit} bytes")]
    MessageTooLarge {
        /// The limit.
        limit: u64,
    },
    /// A message in more frames than allowed.
    #[error("a message is in more than {limit} parts")]
    Fragments {
        /// The limit.
        limit: u32,
    },
}

impl FrameFault {
    /// The close code that tells the sender.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::FrameTooLarge { .. } | Self::MessageTooLarge { .. } => super::close_code::TOO_BIG,
            Self::Fragments { .. } => super::close_code::POLICY,
            Self::Reserved
            | Self::Opcode(_)
            | Self::Control
            | Self::Unmasked
            | Self::Masked
            | Self::Length
            | Self::Order => super::close_code::PROTOCOL,
        }
    }
}

/// A frame without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What it is.
    pub opcode: Opcode,
    /// Whether it is the last part of its message.
    pub fin: bool,
    /// What its payload is masked with.
    pub mask: Option<[u8; 4]>,
    /// Bytes of its payload.
    pub payload_bytes: u64,
}

impl FrameHeader {
    /// Most bytes that a header has.
    pub const MAX_BYTES: usize = 14;

    /// Reads a header at the start of `bytes`, and how many of them it is. `None` while some of it is missing.
    ///
    /// # Errors
    /// [`FrameFault`] for what no frame of this sender may be, whatever came before it.
    pub fn read(bytes: &[u8], sender: FrameSender) -> Result<Option<(Self, usize)>, FrameFault> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameFault::Reserved);
        }
        let opcode = Opcode::read(first & 0x0F).ok_or(FrameFault::Opcode(first & 0x0F))?;
        let fin = first & 0x80 != 0;
        let (is_masked, short) = (second & 0x80 != 0, second & 0x7F);
        if opcode.is_control() && (!fin || short > 125) {
            return Err(FrameFault::Control);
        }
        match (sender, is_masked) {
            (FrameSender::Client, false) => return Err(FrameFault::Unmasked),
            (FrameSender::Server, true) => return Err(FrameFault::Masked),
            (FrameSender::Client, true) | (FrameSender::Server, false) => {}
        }
        let (payload_bytes, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let least = match short {
            126 => 126,
            127 => 0x1_0000,
            _ => 0,
        };
        if payload_bytes < least || payload_bytes > u64::MAX >> 1 {
            return Err(FrameFault::Length);
        }
        let (mask, rest) = match (is_masked, rest.split_first_chunk::<4>()) {
            (false, _) => (None, rest),
            (true, Some((mask, rest))) => (Some(*mask), rest),
            (true, None) => return Ok(None),
        };
        Ok(Some((Self { opcode, fin, mask, payload_bytes }, bytes.len() - rest.len())))
    }

    /// Whether a data message ends with this frame.
    #[must_use]
    pub const fn ends_message(&self) -> bool {
        self.fin && !self.opcode.is_control()
    }

    /// Whether a data message begins with this frame.
    #[must_use]
    pub const fn begins_message(&self) -> bool {
        matches!(self.opcode, Opcode::Text | Opcode::Binary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, FrameFault> {
        FrameHeader::read(bytes, FrameSender::Server)
    }

    #[test]
    fn lengths_are_read_in_all_three_forms() {
        let bytes = |bytes: &[u8]| server(bytes).unwrap().map(|(header, read)| (header.payload_bytes, read));
        assert_eq!(bytes(&[0x82, 5]), Some((5, 2)));
        assert_eq!(bytes(&[0x82, 126, 1, 0]), Some((256, 4)));
        assert_eq!(bytes(&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]), Some((65536, 10)));
        for missing in [&[][..], &[0x82], &[0x82, 126, 1], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0]] {
            assert_eq!(bytes(missing), None);
        }
    }

    #[test]
    fn what_no_frame_may_be_is_refused_at_its_second_byte() {
        for (first, second, fault) in [
            (0xC1, 0, FrameFault::Reserved),
            (0xA1, 0, FrameFault::Reserved),
            (0x91, 0, FrameFault::Reserved),
            (0x83, 0, FrameFault::Opcode(3)),
            (0x8B, 0, FrameFault::Opcode(11)),
            (0x09, 0, FrameFault::Control),
            (0x88, 126, FrameFault::Control),
            (0x8A, 127, FrameFault::Control),
            (0x81, 0x80, FrameFault::Masked),
        ] {
            assert_eq!(server(&[first, second]), Err(fault), "{first:#x} {second:#x}");
        }
        assert_eq!(FrameHeader::read(&[0x81, 1], FrameSender::Client), Err(FrameFault::Unmasked));
    }

    #[test]
    fn a_length_has_one_spelling_and_63_bits() {
        assert_eq!(server(&[0x82, 126, 0, 125]), Err(FrameFault::Length));
        assert_eq!(server(&[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255]), Err(FrameFault::Length));
        assert_eq!(server(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(FrameFault::Length));
    }
}
