//! How a socket ends.

use std::borrow::Cow;

/// Close codes that falgate sends.
pub mod close_code {
    /// All is well.
    pub const NORMAL: u16 = 1000;
    /// The server ends, or the page is left.
    pub const GOING_AWAY: u16 = 1001;
    /// The other side breaks the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// The other side does what it may not do.
    pub const POLICY: u16 = 1008;
    /// A message is too large.
    pub const TOO_BIG: u16 = 1009;
    /// Something failed here.
    pub const FAILED: u16 = 1011;
}

/// A close code and its sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The code.
    pub code: u16,
    /// The sentence; at most 123 bytes of it are sent.
    pub text: Cow<'static, str>,
}

/// A close frame's payload that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a close frame is malformed")]
pub struct CloseFault;

impl CloseReason {
    /// Reads the payload of a close frame. An empty one gives no reason, which JavaScript shows as 1005.
    ///
    /// # Errors
    /// [`CloseFault`] for half a code, a code that may not be sent, or a sentence that is not UTF-8.
    pub fn read(payload: &[u8]) -> Result<Option<Self>, CloseFault> {
        let Some((code, text)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() { Ok(None) } else { Err(CloseFault) };
        };
        let code = u16::from_be_bytes(*code);
        // RFC 6455, section 7.4, and IANA's list: 1004 to 1006 and 1015 are never sent.
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(CloseFault);
        }
        let text = std::str::from_utf8(text).map_err(|_| CloseFault)?;
        Ok(Some(Self { code, text: text.to_owned().into() }))
    }

    /// As much of the sentence as a frame holds.
    pub(super) fn short_text(&self) -> &str {
        &self.text[..self.text.floor_char_boundary(123)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_a_code_and_utf_8() {
        assert_eq!(CloseReason::read(b""), Ok(None));
        let reason = CloseReason { code: 1000, text: "bye".into() };
        assert_eq!(CloseReason::read(b"\x03\xE8bye"), Ok(Some(reason)));
        for bad in [&b"\x03"[..], b"\x03\xED", b"\x03\xEE", b"\x03\xF7", b"\0\0", b"\x13\x88", b"\x03\xE8\xFF"] {
            assert_eq!(CloseReason::read(bad), Err(CloseFault), "{bad:?}");
        }
    }
}
