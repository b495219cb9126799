//! The head of a request, as bytes.

use std::io::Write as _;

use http::Method;
use http::request::Parts;
use http_body::Body as _;

use super::line::SentAs;
use crate::upstream::sent_body::SentBody;

/// Writes the head of a request whose headers hold none of the connection's own but `host`. Says how the body is sent;
/// `None` for one without a byte.
pub(super) fn write_head(parts: &Parts, body: &SentBody, out: &mut Vec<u8>) -> Option<SentAs> {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.extend_from_slice(b" ");
    out.extend_from_slice(parts.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
    // Writing to a vector never fails.
    let _ = match length {
        Some(0) if parts.method == Method::GET => out.write_all(b"\r\n"),
        Some(bytes) => write!(out, "content-length: {bytes}\r\n\r\n"),
        None => out.write_all(b"transfer-encoding: chunked\r\n\r\n"),
    };
    match length {
        Some(0) => None,
        Some(bytes) => Some(SentAs::Length(bytes)),
        None => Some(SentAs::Chunks),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;

    use super::*;
    use crate::wire::Body;

    fn head(method: Method, body: Body) -> (String, Option<SentAs>) {
        let (body, _) = SentBody::new(body, Duration::from_secs(1));
        let request = Request::builder().method(method).uri("/fal-ai/flux?a=1").header("host", "fal.run").body(body);
        let (parts, body) = request.unwrap().into_parts();
        let mut out = Vec::new();
        let how = write_head(&parts, &body, &mut out);
        (String::from_utf8(out).unwrap(), how)
    }

    #[test]
    fn a_head_says_how_long_its_body_is() {
        let (text, how) = head(Method::POST, Body::from("hello"));
        assert_eq!(text, "POST /fal-ai/flux?a=1 HTTP/1.1\r\nhost: fal.run\r\ncontent-length: 5\r\n\r\n");
        assert_eq!(how, Some(SentAs::Length(5)));
        let (text, how) = head(Method::POST, Body::empty());
        assert!(text.contains("content-length: 0\r\n") && how.is_none(), "{text}");
        let (text, how) = head(Method::GET, Body::empty());
        assert!(text.ends_with("host: fal.run\r\n\r\n") && how.is_none(), "{text}");
        let stream = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>,
        >());
        let (text, how) = head(Method::POST, Body::new(stream));
        assert!(text.contains("transfer-encoding: chunked\r\n") && how == Some(SentAs::Chunks), "{text}");
    }
}
