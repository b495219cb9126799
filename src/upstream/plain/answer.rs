//! The head of an answer, and where its body ends.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::chunks::Chunks;
use crate::upstream::error::UpstreamError;

const MAX_FIELDS: usize = 100;

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// After so many bytes more.
    Bytes(u64),
    /// With the last chunk.
    Chunks(Chunks),
    /// With the connection.
    ToTheEnd,
}

impl Length {
    /// Whether nothing of the body is to come.
    pub(super) fn is_over(self) -> bool {
        match self {
            Self::Bytes(left) => left == 0,
            Self::Chunks(chunks) => chunks.is_at_end(),
            Self::ToTheEnd => false,
        }
    }
}

/// A head that is whole. Its headers do not tell the length any more: the body does.
pub(super) struct Head {
    pub(super) answer: Response<()>,
    pub(super) body: Length,
    /// Whether another exchange may follow on this connection.
    pub(super) keep_alive: bool,
    /// Its length in bytes, the empty line included.
    pub(super) len: usize,
}

/// Reads a head at the start of `bytes`; `None` when it is not whole yet.
///
/// # Errors
/// [`UpstreamError::Broken`] for what is no HTTP, [`UpstreamError::Framing`] for a length that could be read in two ways.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Head>, UpstreamError> {
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, &mut fields);
    let httparse::Status::Complete(len) = parsed.map_err(|error| UpstreamError::Broken(error.into()))? else {
        return Ok(None);
    };
    let (Some(version), Some(code)) = (head.version, head.code) else { return Ok(None) };
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(code).map_err(|error| UpstreamError::Broken(error.into()))?;
    // The values are slices of one copy of the head.
    let text = Bytes::copy_from_slice(&bytes[..len]);
    let (body, length_keeps) = length(*answer.status_mut(), head.headers)?;
    let mut keep_alive = length_keeps && version == 1;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    let start = bytes.as_ptr().addr();
    for field in &*head.headers {
        match own(field) {
            Some(Own::Length) => continue,
            Some(Own::Close) => {
                keep_alive = false;
                continue;
            }
            Some(Own::KeepAlive) => continue,
            Some(Own::Options) => keep_alive &= !lists_close(field.value),
            None => {}
        }
        let at = field.value.as_ptr().addr().wrapping_sub(start);
        let value = if field.value.is_empty() { Bytes::new() } else { text.slice(at..at + field.value.len()) };
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|error| UpstreamError::Broken(error.into()))?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|error| UpstreamError::Broken(error.into()))?;
        headers.append(name, value);
    }
    *answer.headers_mut() = headers;
    Ok(Some(Head { answer, body, keep_alive, len }))
}

/// A field that is about this connection, and goes no further.
enum Own {
    /// `content-length` or `transfer-encoding`: what they say is in [`Head::body`].
    Length,
    /// `connection: close`.
    Close,
    /// `connection: keep-alive`.
    KeepAlive,
    /// `connection` that says more; whoever passes the answer on must look at it.
    Options,
}

fn own(field: &httparse::Header<'_>) -> Option<Own> {
    let is = |name: &str| field.name.eq_ignore_ascii_case(name);
    match field.name.len() {
        10 if is("connection") && field.value.eq_ignore_ascii_case(b"keep-alive") => Some(Own::KeepAlive),
        10 if is("connection") && field.value.eq_ignore_ascii_case(b"close") => Some(Own::Close),
        10 if is("connection") => Some(Own::Options),
        14 if is("content-length") => Some(Own::Length),
        17 if is("transfer-encoding") => Some(Own::Length),
        _ => None,
    }
}

/// Where the body ends (RFC 9112, section 6.3), and whether the connection can be trusted after it.
fn length(status: StatusCode, fields: &[httparse::Header<'_>]) -> Result<(Length, bool), UpstreamError> {
    let all = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    };
    let (mut codings, mut lengths) = (all("transfer-encoding"), all("content-length"));
    let lengths = match (codings.next(), lengths.next()) {
        (None, None) => None,
        (Some(coding), None) if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") => {
            Some(Length::Chunks(Chunks::new()))
        }
        (None, Some(first)) if lengths.all(|other| other == first) => Some(Length::Bytes(number(first)?)),
        _ => return Err(UpstreamError::Framing),
    };
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok((Length::Bytes(0), !status.is_informational()));
    }
    Ok(lengths.map_or((Length::ToTheEnd, false), |length| (length, true)))
}

fn number(digits: &[u8]) -> Result<u64, UpstreamError> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain);
    text.and_then(|text| text.parse().ok()).ok_or(UpstreamError::Framing)
}

fn lists_close(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_connections_own_goes_no_further() {
        let text = "HTTP/1.1 200 OK\r\na: b\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
        let head = read_text(text).unwrap().unwrap();
        assert_eq!(head.answer.headers().keys().collect::<Vec<_>>(), ["a"]);
        let listing = read_text(&text.replace("keep-alive", "a, keep-alive")).unwrap().unwrap();
        assert_eq!(listing.answer.headers()["connection"], "a, keep-alive");
    }

    fn read_text(text: &str) -> Result<Option<Head>, UpstreamError> {
        read(text.as_bytes())
    }

    #[test]
    fn a_head_says_where_its_body_ends() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Length::Bytes(5), true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n", Length::Bytes(5), true),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 5\r\n\r\n", Length::Bytes(5), false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Length::Bytes(5), false),
            ("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", Length::Chunks(Chunks::new()), true),
            ("HTTP/1.1 200 OK\r\nempty:\r\n\r\n", Length::ToTheEnd, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Length::Bytes(0), true),
            ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", Length::Bytes(0), true),
            ("HTTP/1.1 101 Switching\r\n\r\n", Length::Bytes(0), false),
        ];
        for (text, body, keep_alive) in cases {
            let head = read_text(&format!("{text}rest")).unwrap().unwrap();
            assert_eq!((head.body, head.keep_alive, head.len), (body, keep_alive, text.len()), "{text}");
        }
        assert!(read_text("HTTP/1.1 200 OK\r\ncontent-").unwrap().is_none());
    }

    #[test]
    fn a_length_that_could_be_read_in_two_ways_is_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5, 5",
            "content-length: +5",
            "content-length:",
            "content-length: 99999999999999999999",
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert!(matches!(read_text(&text), Err(UpstreamError::Framing)), "{fields}");
        }
        assert!(matches!(read_text("HTTP/1.1 200 OK\r\nbad name: 1\r\n\r\n"), Err(UpstreamError::Broken(_))));
        assert!(matches!(read_text("SSH-2.0\r\n\r\n"), Err(UpstreamError::Broken(_))));
    }
}
