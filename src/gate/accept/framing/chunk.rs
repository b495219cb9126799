//! A chunked body, checked byte by byte where it frames and skipped where it does not.

use super::field;

const MAX_SIZE_DIGITS: u8 = 8;
const MAX_TRAILER_BYTES: usize = 4 * 1024;
const MAX_TRAILER_LINE: usize = 1024;

/// What is wrong with a chunked body. The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkFault {
    /// The size is missing, too long, no hexadecimal number, or followed by an extension.
    #[error("chunk size is not a plain hexadecimal number")]
    Size,
    /// A line or a chunk does not end in CR LF.
    #[error("chunk does not end in CR LF")]
    End,
    /// The trailers are malformed or too many.
    #[error("trailers are malformed or too large")]
    Trailers,
}

/// Follows a chunked body to its last byte. Sizes are plain (no extensions), trailers bounded to 4 KiB.
#[derive(Debug, Clone)]
pub struct ChunkScanner {
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Size { value: u64, digits: u8 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers { line: Vec<u8>, total: usize },
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self { state: State::Size { value: 0, digits: 0 } }
    }
}

impl ChunkScanner {
    /// Reads on in `bytes`; `Some(n)` says that the body ended after `n` of them.
    ///
    /// # Errors
    /// [`ChunkFault`] at the first byte that is out of place.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkFault> {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data { left } = &mut self.state {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                *left -= here as u64;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.step(byte)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Takes one byte that is no data; true at the end of the body.
    fn step(&mut self, byte: u8) -> Result<bool, ChunkFault> {
        let next = match &mut self.state {
            State::Size { value, digits } => match (byte, hex(byte)) {
                (b'\r', _) if *digits > 0 => State::SizeEnd { value: *value },
                (_, Some(digit)) if *digits < MAX_SIZE_DIGITS => {
                    State::Size { value: *value << 4 | u64::from(digit), digits: *digits + 1 }
                }
                _ => return Err(ChunkFault::Size),
            },
            State::SizeEnd { value } => match (byte, *value) {
                (b'\n', 0) => State::Trailers { line: Vec::new(), total: 0 },
                (b'\n', left) => State::Data { left },
                _ => return Err(ChunkFault::End),
            },
            State::Data { .. } => return Err(ChunkFault::End),
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { value: 0, digits: 0 },
            State::DataCr | State::DataLf => return Err(ChunkFault::End),
            State::Trailers { line, total } => return trailer_byte(line, total, byte),
        };
        self.state = next;
        Ok(false)
    }
}

fn trailer_byte(line: &mut Vec<u8>, total: &mut usize, byte: u8) -> Result<bool, ChunkFault> {
    *total += 1;
    if *total > MAX_TRAILER_BYTES || line.len() >= MAX_TRAILER_LINE {
        return Err(ChunkFault::Trailers);
    }
    if byte != b'\n' {
        line.push(byte);
        return Ok(false);
    }
    let [text @ .., b'\r'] = line.as_slice() else { return Err(ChunkFault::End) };
    if text.is_empty() {
        return Ok(true);
    }
    let name = field::split(text).map_err(|_| ChunkFault::Trailers)?.name;
    let frames = [&b"content-length"[..], b"transfer-encoding", b"host", b"authorization", b"connection"];
    if frames.iter().any(|word| name.eq_ignore_ascii_case(word)) {
        return Err(ChunkFault::Trailers);
    }
    line.clear();
    Ok(false)
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        let text = b"5\r\nhello\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nGET / ";
        let wanted = text.len() - 6;
        assert_eq!(ChunkScanner::default().scan(text), Ok(Some(wanted)));
        for cut in 0..wanted {
            let mut scanner = ChunkScanner::default();
            assert_eq!(scanner.scan(&text[..cut]), Ok(None), "cut at {cut}");
            assert_eq!(scanner.scan(&text[cut..]), Ok(Some(wanted - cut)), "cut at {cut}");
        }
    }

    #[test]
    fn chunks_get_the_fault_they_have() {
        let cases = [
            ("\r\n", ChunkFault::Size),
            ("5;a=b\r\nhello\r\n", ChunkFault::Size),
            ("5 \r\nhello\r\n", ChunkFault::Size),
            ("0x5\r\nhello\r\n", ChunkFault::Size),
            ("-5\r\n", ChunkFault::Size),
            ("000000005\r\n", ChunkFault::Size),
            ("5\nhello\r\n", ChunkFault::Size),
            ("5\rhello\r\n", ChunkFault::End),
            ("5\r\nhello!\r\n", ChunkFault::End),
            ("5\r\nhello\n0\r\n\r\n", ChunkFault::End),
            ("0\r\na: b\n\r\n", ChunkFault::End),
            ("0\r\ncontent-length: 5\r\n\r\n", ChunkFault::Trailers),
            ("0\r\n folded\r\n\r\n", ChunkFault::Trailers),
        ];
        for (text, fault) in cases {
            assert_eq!(ChunkScanner::default().scan(text.as_bytes()), Err(fault), "{}", text.escape_debug());
        }
        let flood = format!("0\r\n{}", "a: b\r\n".repeat(2000));
        assert_eq!(ChunkScanner::default().scan(flood.as_bytes()), Err(ChunkFault::Trailers));
    }
}
