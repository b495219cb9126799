//! Takes a chunked body apart (RFC 9112, section 7.1).

use bytes::{Buf as _, Bytes};

use crate::upstream::error::UpstreamError;

/// Longest line of sizes, extensions or trailers, in bytes.
const MAX_LINE: usize = 1024;
/// Most bytes of all trailers.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_SIZE_DIGITS: u8 = 15;

/// Where a chunked body stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { value: u64, seen: usize },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailer { line: usize, total: usize },
    TrailerEnd { line: usize, total: usize },
    End,
}

impl Chunks {
    /// Before the first chunk.
    pub(super) const fn new() -> Self {
        Self(State::Size { value: 0, digits: 0 })
    }

    pub(super) fn is_at_end(self) -> bool {
        self.0 == State::End
    }

    /// Takes the next data out of `from`; `None` when `from` is used up, or at the end of the body. Trailers are dropped.
    ///
    /// # Errors
    /// [`UpstreamError::Framing`] at the first byte that is out of place.
    pub(super) fn take(&mut self, from: &mut Bytes) -> Result<Option<Bytes>, UpstreamError> {
        while !from.is_empty() && !self.is_at_end() {
            if let State::Data { left } = self.0 {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(from.len());
                let left = left - here as u64;
                self.0 = if left == 0 { State::DataCr } else { State::Data { left } };
                return Ok(Some(from.split_to(here)));
            }
            self.0 = step(self.0, from.get_u8()).ok_or(UpstreamError::Framing)?;
        }
        Ok(None)
    }
}

/// The state after one byte that is no data; `None` when it is out of place.
fn step(state: State, byte: u8) -> Option<State> {
    Some(match (state, byte) {
        (State::Size { value, digits: 1.. }, b'\r') => State::SizeEnd { value },
        (State::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { value, seen: 0 },
        (State::Size { value, digits }, _) if digits < MAX_SIZE_DIGITS => {
            State::Size { value: value << 4 | u64::from(char::from(byte).to_digit(16)?), digits: digits + 1 }
        }
        (State::Extension { value, .. }, b'\r') => State::SizeEnd { value },
        (State::Extension { value, seen }, _) if byte != b'\n' && seen < MAX_LINE => {
            State::Extension { value, seen: seen + 1 }
        }
        (State::SizeEnd { value: 0 }, b'\n') => State::Trailer { line: 0, total: 0 },
        (State::SizeEnd { value: left }, b'\n') => State::Data { left },
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
        (State::Trailer { line, total }, b'\r') => State::TrailerEnd { line, total },
        (State::Trailer { line, total }, _) if byte != b'\n' && line < MAX_LINE && total < MAX_TRAILERS => {
            State::Trailer { line: line + 1, total: total + 1 }
        }
        (State::TrailerEnd { line: 0, .. }, b'\n') => State::End,
        (State::TrailerEnd { total, .. }, b'\n') => State::Trailer { line: 0, total },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &mut Chunks, text: &[u8]) -> Result<Vec<u8>, UpstreamError> {
        let mut from = Bytes::copy_from_slice(text);
        let mut all = Vec::new();
        while let Some(data) = chunks.take(&mut from)? {
            all.extend_from_slice(&data);
        }
        all.extend_from_slice(b"|");
        all.extend_from_slice(&from);
        Ok(all)
    }

    #[test]
    fn a_chunked_body_reads_the_same_however_it_is_cut() {
        let text = b"5\r\nhello\r\nA;x=y\r\n, everyone\r\n0\r\nx-sum: 1\r\n\r\nrest";
        for cut in 0..text.len() {
            let mut chunks = Chunks::new();
            let mut all = read(&mut chunks, &text[..cut]).unwrap();
            all.extend(read(&mut chunks, &text[cut..]).unwrap());
            let all = String::from_utf8(all).unwrap().replace('|', "");
            assert_eq!(all, "hello, everyonerest", "cut at {cut}");
            assert!(chunks.is_at_end());
        }
    }

    #[test]
    fn a_byte_out_of_place_is_found() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "5\nhello",
            "5\rx",
            "5\r\nhello!",
            "5\r\nhello\rx",
            "1000000000000000\r\n",
            "0\r\na\n",
        ] {
            assert!(read(&mut Chunks::new(), text.as_bytes()).is_err(), "{}", text.escape_debug());
        }
        let long = format!("0\r\n{}", "a: b\r\n".repeat(10_000));
        assert!(read(&mut Chunks::new(), long.as_bytes()).is_err());
        let long = format!("5;{}", "a".repeat(2000));
        assert!(read(&mut Chunks::new(), long.as_bytes()).is_err());
    }
}
