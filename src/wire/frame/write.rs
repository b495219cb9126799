//! Frames of one's own.

use super::{CloseReason, Opcode};

/// Appends a whole frame to `out`. With a mask it is a client's frame, without one a server's.
///
/// A control frame's payload has at most 125 bytes; what is more is left out.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    let payload = if opcode.is_control() { &payload[..payload.len().min(125)] } else { payload };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.reserve(payload.len() + super::FrameHeader::MAX_BYTES);
    out.push(0x80 | opcode.bits());
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ ..=125), _) => out.push(masked | short),
        (_, Ok(length)) => {
            out.push(masked | 126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
    let begins = out.len();
    out.extend_from_slice(payload);
    if let Some(mask) = mask {
        apply_mask(&mut out[begins..], mask, 0);
    }
}

/// Appends a close frame to `out`.
pub fn write_close(out: &mut Vec<u8>, reason: &CloseReason, mask: Option<[u8; 4]>) {
    let mut payload = reason.code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.short_text().as_bytes());
    write_frame(out, Opcode::Close, &payload, mask);
}

/// Masks `bytes`, or takes their mask off: it is the same. `offset` is how many bytes of the payload came before.
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_goes_on_where_it_stopped() {
        let mask = [1, 2, 3, 4];
        let mut whole = *b"a message that is long enough";
        let mut parts = whole;
        apply_mask(&mut whole, mask, 0);
        for (begin, end) in [(0, 1), (1, 6), (6, 15), (15, 29)] {
            apply_mask(&mut parts[begin..end], mask, begin as u64);
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn a_frame_is_written_as_the_rfc_shows_it() {
        // RFC 6455, section 5.7.
        let mut out = Vec::new();
        write_frame(&mut out, Opcode::Text, b"Hello", None);
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        write_frame(&mut out, Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        out.clear();
        write_frame(&mut out, Opcode::Binary, &[7; 65536], None);
        assert_eq!(out[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(out.len(), 65546);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = Vec::new();
        write_close(&mut out, &CloseReason { code: 1011, text: "é".repeat(100).into() }, None);
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}
