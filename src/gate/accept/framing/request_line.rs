//! The first line of a request.

use memchr::memchr;

use super::HeadFault;

/// The methods that anything here answers, as an `Allow` value.
pub(in crate::gate::accept) const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";

/// What the first line says that the rest of the head must agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) is_get: bool,
    pub(super) is_http10: bool,
}

/// Whether a method is on the allow list.
pub(in crate::gate::accept) fn is_taken(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"PATCH" | b"OPTIONS")
}

/// Checks the line, which comes without its CR LF.
pub(super) fn check(line: &[u8], max_target: usize) -> Result<RequestLine, HeadFault> {
    let method_end = memchr(b' ', line).ok_or(HeadFault::RequestLine)?;
    let (method, rest) = (&line[..method_end], &line[method_end + 1..]);
    if method.is_empty() || !method.iter().all(|byte| super::field::is_name_byte(*byte)) {
        return Err(HeadFault::RequestLine);
    }
    let target_end = memchr(b' ', rest).ok_or(HeadFault::RequestLine)?;
    let (target, version) = (&rest[..target_end], &rest[target_end + 1..]);
    if target.is_empty() {
        return Err(HeadFault::RequestLine);
    }
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if is_version(version) => return Err(HeadFault::Version),
        _ => return Err(HeadFault::RequestLine),
    };
    if !is_taken(method) {
        return Err(HeadFault::Method);
    }
    if target.len() > max_target {
        return Err(HeadFault::TargetTooLong);
    }
    if target == b"*" && method == b"OPTIONS" {
        return Ok(RequestLine { is_get: false, is_http10 });
    }
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let path = parts.next().unwrap_or_default();
    let query = parts.next().unwrap_or_default();
    if path.first() != Some(&b'/') || !path.iter().all(is_path_byte) || !query.iter().all(is_query_byte) {
        return Err(HeadFault::Target);
    }
    Ok(RequestLine { is_get: method == b"GET", is_http10 })
}

/// `HTTP/` digit `.` digit.
const fn is_version(version: &[u8]) -> bool {
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Printable ASCII without the marks that RFC 3986 keeps out of a path and that parsers disagree about: `" # < > \ ^`,
/// a back-tick, `{ | }` stay with the client, percent-encoded. Curly braces and quotes are taken: Python sends them raw.
const fn is_path_byte(byte: &u8) -> bool {
    matches!(byte, b'!' | b'"' | b'$'..=b';' | b'=' | b'@'..=b'[' | b']' | b'_' | b'a'..=b'~')
}

const fn is_query_byte(byte: &u8) -> bool {
    matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'~')
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;

    #[test]
    fn whatever_passes_here_is_a_path_for_the_http_crate() {
        for byte in 0..=u8::MAX {
            if is_path_byte(&byte) {
                let target = [b'/', byte];
                assert!(PathAndQuery::try_from(&target[..]).is_ok(), "{byte:#x} in a path");
            }
            if is_query_byte(&byte) {
                let target = [b'/', b'?', byte];
                assert!(PathAndQuery::try_from(&target[..]).is_ok(), "{byte:#x} in a query");
            }
        }
    }

    #[test]
    fn lines_get_the_fault_they_have() {
        let cases: [(&str, Result<bool, HeadFault>); 18] = [
            ("GET / HTTP/1.1", Ok(false)),
            ("GET /a?b=c&d=%20 HTTP/1.0", Ok(true)),
            ("OPTIONS * HTTP/1.1", Ok(false)),
            ("GET * HTTP/1.1", Err(HeadFault::Target)),
            ("GET /", Err(HeadFault::RequestLine)),
            ("GET  / HTTP/1.1", Err(HeadFault::RequestLine)),
            ("GET / HTTP/1.1 ", Err(HeadFault::RequestLine)),
            ("GET / http/1.1", Err(HeadFault::RequestLine)),
            ("GET / HTTP/2.0", Err(HeadFault::Version)),
            ("GET / HTTP/1.2", Err(HeadFault::Version)),
            ("TRACE / HTTP/1.1", Err(HeadFault::Method)),
            ("CONNECT fal.run:443 HTTP/1.1", Err(HeadFault::Method)),
            ("get / HTTP/1.1", Err(HeadFault::Method)),
            ("G(T / HTTP/1.1", Err(HeadFault::RequestLine)),
            ("GET http://fal.run/ HTTP/1.1", Err(HeadFault::Target)),
            ("GET /a#b HTTP/1.1", Err(HeadFault::Target)),
            ("GET /a\\b HTTP/1.1", Err(HeadFault::Target)),
            ("GET /ü HTTP/1.1", Err(HeadFault::Target)),
        ];
        for (line, wanted) in cases {
            assert_eq!(check(line.as_bytes(), 100).map(|line| line.is_http10), wanted, "{line}");
        }
        assert_eq!(check(b"GET /long HTTP/1.1", 4), Err(HeadFault::TargetTooLong));
    }
}
