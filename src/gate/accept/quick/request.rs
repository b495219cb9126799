//! A whole request, taken off the connection.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use crate::gate::accept::io::GuardedIo;
use crate::wire::Body;

const MAX_FIELDS: usize = 100;

/// Takes the request that `io` holds; `None`, and nothing taken, where it is not wholly there or not for this place.
pub(super) fn take<T>(io: &mut GuardedIo<T>) -> Option<Request<Body>> {
    let (bytes, head_len) = io.whole_message()?;
    let request = read(bytes, head_len)?;
    io.message_taken();
    Some(request)
}

/// Reads a message that the framer let through.
fn read(message: &[u8], head_len: usize) -> Option<Request<Body>> {
    let mut fields = [MaybeUninit::uninit(); MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(&message[..head_len], &mut fields);
    if !matches!(parsed, Ok(httparse::Status::Complete(len)) if len == head_len) || head.version != Some(1) {
        return None;
    }
    let method = match head.method? {
        "POST" => Method::POST,
        "GET" => Method::GET,
        "PUT" => Method::PUT,
        _ => return None,
    };
    // The path, the values and the body are slices of one copy of the message.
    let text = Bytes::copy_from_slice(message);
    let start = message.as_ptr().addr();
    let slice = |part: &[u8]| {
        let at = part.as_ptr().addr().wrapping_sub(start);
        if part.is_empty() { Bytes::new() } else { text.slice(at..at + part.len()) }
    };
    let uri = Uri::from_maybe_shared(slice(head.path?.as_bytes())).ok()?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for field in &*head.headers {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(slice(field.value)).ok()?;
        headers.append(name, value);
    }
    if headers.contains_key(EXPECT) || !asks_to_stay(&headers) {
        return None;
    }
    let mut request = Request::new(Body::from(text.slice(head_len..)));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(request)
}

/// Whether the connection goes on after the answer, and as it is.
fn asks_to_stay(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn read_text(head: &str, body: &str) -> Option<Request<Body>> {
        read(format!("{head}{body}").as_bytes(), head.len())
    }

    #[test]
    fn a_plain_request_is_read_whole() {
        let head = "POST /a?b=c HTTP/1.1\r\nHost: a\r\nconnection: Keep-Alive\r\nempty:\r\ncontent-length: 5\r\n\r\n";
        let request = read_text(head, "hello").unwrap();
        assert_eq!((request.method(), request.uri().to_string().as_str()), (&Method::POST, "/a?b=c"));
        assert_eq!(request.headers()["host"], "a");
        assert_eq!(request.headers()["empty"], "");
        assert_eq!(request.body().size_hint().exact(), Some(5));
        assert!(read_text("\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "").unwrap().body().is_end_stream());
    }

    #[test]
    fn what_asks_for_more_than_an_answer_is_not_taken() {
        for head in [
            "HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, te\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n",
        ] {
            assert!(read_text(head, "").is_none(), "{head}");
        }
    }
}
