//! A whole request head, read line by line as it arrives.

use memchr::memchr;

use super::request_line::RequestLine;
use super::{HeadFault, field, request_line};

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub bytes: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// How the body of a request is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    None,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A head that is whole and beyond doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes, the empty line included.
    pub len: usize,
    /// What follows it.
    pub body: BodyKind,
    /// Whether it is a WebSocket handshake.
    pub upgrade: bool,
    /// Whether a field name holds `_`, which some servers read as `-`.
    pub underscores: bool,
}

/// Reads one head in as many pieces as it comes; no byte is looked at twice but for the last line's.
#[derive(Debug, Clone, Default)]
pub struct HeadScanner {
    line_start: usize,
    searched: usize,
    skipped_empty: bool,
    first: Option<RequestLine>,
    fields: usize,
    host: bool,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection_upgrade: bool,
    underscores: bool,
}

impl HeadScanner {
    /// Goes on reading; `bytes` starts with the head's first byte and holds at least as much as last time.
    ///
    /// `None` asks for more bytes.
    ///
    /// # Errors
    /// [`HeadFault`] as soon as the line at fault is complete, or a limit is crossed.
    pub fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Head>, HeadFault> {
        while let Some(found) = memchr(b'\n', &bytes[self.searched..]) {
            let end = self.searched + found;
            let [line @ .., b'\r'] = &bytes[self.line_start..end] else { return Err(HeadFault::LineEnd) };
            self.line_start = end + 1;
            self.searched = end + 1;
            if end >= limits.bytes {
                return Err(HeadFault::HeadTooLarge);
            }
            if line.is_empty() && self.first.is_some() {
                return self.finish(end + 1).map(Some);
            }
            if line.is_empty() && !self.skipped_empty {
                // One empty line in front is what old clients send after a POST (RFC 9112, 2.2).
                self.skipped_empty = true;
                continue;
            }
            self.line(line, limits)?;
        }
        self.searched = bytes.len();
        let waiting = bytes.len() - self.line_start;
        if self.first.is_none() && waiting > limits.target_bytes + 32 {
            return Err(HeadFault::TargetTooLong);
        }
        if bytes.len() > limits.bytes {
            return Err(HeadFault::HeadTooLarge);
        }
        Ok(None)
    }

    fn line(&mut self, line: &[u8], limits: &HeadLimits) -> Result<(), HeadFault> {
        if self.first.is_none() {
            if memchr(b'\r', line).is_some() {
                return Err(HeadFault::LineEnd);
            }
            self.first = Some(request_line::check(line, limits.target_bytes)?);
            return Ok(());
        }
        self.fields += 1;
        if self.fields > limits.fields {
            return Err(HeadFault::TooManyFields);
        }
        let field = field::split(line)?;
        self.underscores |= field.has_underscore;
        let is = |name: &str| field.name.eq_ignore_ascii_case(name.as_bytes());
        match field.name.len() {
            4 if is("host") => {
                if self.host || !field::is_host(field.value) {
                    return Err(HeadFault::Host);
                }
                self.host = true;
            }
            6 if is("expect") && !field.value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(HeadFault::Expectation);
            }
            7 if is("upgrade") => {
                if self.upgrade || !field.value.eq_ignore_ascii_case(b"websocket") {
                    return Err(HeadFault::Upgrade);
                }
                self.upgrade = true;
            }
            10 if is("connection") => self.connection_upgrade |= field::lists(field.value, b"upgrade"),
            14 if is("content-length") => {
                if self.length.is_some() {
                    return Err(HeadFault::ContentLength);
                }
                self.length = Some(field::content_length(field.value).ok_or(HeadFault::ContentLength)?);
            }
            17 if is("transfer-encoding") => {
                if self.chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadFault::TransferEncoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, len: usize) -> Result<Head, HeadFault> {
        let first = self.first.ok_or(HeadFault::RequestLine)?;
        if !self.host && !first.is_http10 {
            return Err(HeadFault::Host);
        }
        if self.chunked && first.is_http10 {
            return Err(HeadFault::TransferEncoding);
        }
        let body = match (self.length, self.chunked) {
            (Some(_), true) => return Err(HeadFault::TwoLengths),
            (None, true) => BodyKind::Chunked,
            (None | Some(0), false) => BodyKind::None,
            (Some(length), false) => BodyKind::Length(length),
        };
        let handshake = self.connection_upgrade && first.is_get && !first.is_http10 && body == BodyKind::None;
        if self.upgrade && !handshake {
            return Err(HeadFault::Upgrade);
        }
        Ok(Head { len, body, upgrade: self.upgrade, underscores: self.underscores })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 512, target_bytes: 100, fields: 4 };

    fn scan(text: &str) -> Result<Option<Head>, HeadFault> {
        HeadScanner::default().scan(text.as_bytes(), &LIMITS)
    }

    #[test]
    fn a_head_in_any_pieces_reads_as_it_does_whole() {
        let text = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nx_y: z\r\n\r\nhello";
        let wanted = Head { len: text.len() - 5, body: BodyKind::Length(5), upgrade: false, underscores: true };
        let mut scanner = HeadScanner::default();
        for end in 0..text.len() - 5 {
            assert_eq!(scanner.scan(&text[..end], &LIMITS), Ok(None), "{end} bytes");
        }
        assert_eq!(scanner.scan(text, &LIMITS), Ok(Some(wanted)));
    }

    #[test]
    fn heads_get_the_fault_they_have() {
        let cases = [
            ("GET / HTTP/1.1\nhost: a\n\n", HeadFault::LineEnd),
            ("GET / HTTP/1.1\r\nhost: a\n\r\n", HeadFault::LineEnd),
            ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", HeadFault::RequestLine),
            ("GET / HTTP/1.1\r\n\r\n", HeadFault::Host),
            ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", HeadFault::Host),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", HeadFault::ContentLength),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                HeadFault::TwoLengths,
            ),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n", HeadFault::TransferEncoding),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", HeadFault::TransferEncoding),
            ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n", HeadFault::TransferEncoding),
            ("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n", HeadFault::Upgrade),
            ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n", HeadFault::Upgrade),
            ("GET / HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\n\r\n", HeadFault::Expectation),
            ("GET / HTTP/1.1\r\na:\r\na:\r\na:\r\na:\r\na:\r\n\r\n", HeadFault::TooManyFields),
        ];
        for (text, fault) in cases {
            assert_eq!(scan(text), Err(fault), "{}", text.escape_debug());
        }
    }

    #[test]
    fn limits_hold_before_the_line_is_complete() {
        assert_eq!(scan(&format!("GET /{}", "a".repeat(200))), Err(HeadFault::TargetTooLong));
        let long = format!("GET / HTTP/1.1\r\nhost: a\r\na: {}", "b".repeat(600));
        assert_eq!(scan(&long), Err(HeadFault::HeadTooLarge));
        assert_eq!(scan(&format!("{long}\r\n\r\n")), Err(HeadFault::HeadTooLarge));
    }

    #[test]
    fn a_handshake_is_told_from_a_request() {
        let text = "GET / HTTP/1.1\r\nhost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
        assert!(scan(text).unwrap().unwrap().upgrade);
        let with_body = text.replacen("host: a", "host: a\r\ncontent-length: 4", 1);
        assert_eq!(scan(&with_body), Err(HeadFault::Upgrade));
    }
}
