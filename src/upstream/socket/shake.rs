//! The gate's handshake with fal, as strict as the one at its own door.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use http::header::{
    self, CONNECTION, HOST, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;

use super::dial::Line;
use super::error::OpenError;
use crate::upstream::Address;
use crate::upstream::key_layer::retry_after;
use crate::wire::{Body, accept_of};

/// Largest head that is read.
const HEAD_BYTES: usize = 16 * 1024;

/// An open socket of fal's, and the bytes that came right behind its answer.
#[derive(Debug)]
pub(super) struct Shaken {
    pub(super) line: Line,
    pub(super) first: Bytes,
}

/// Asks for a socket at `path` on a fresh connection.
///
/// The connection becomes a tunnel only after a 101 with the accept key that belongs to our own key. With any other answer
/// it is dropped, whatever it says.
pub(super) async fn shake(
    line: Line,
    to: &Address,
    path: PathAndQuery,
    headers: HeaderMap,
) -> Result<Shaken, OpenError> {
    let broken = |cause: hyper::Error| OpenError::Broken(cause.into());
    let key = base64_simd::STANDARD.encode_to_string(rand::random::<[u8; 16]>());
    let (mut sender, connection) =
        Builder::new().max_buf_size(HEAD_BYTES).handshake(TokioIo::new(line)).await.map_err(broken)?;
    let mut connection = pin!(connection.without_shutdown());
    let mut answer = pin!(sender.send_request(request(to, path, headers, &key)));
    let mut parts = None;
    let answer = poll_fn(|cx| {
        if parts.is_none()
            && let Poll::Ready(done) = connection.as_mut().poll(cx)
        {
            parts = Some(done);
        }
        answer.as_mut().poll(cx)
    });
    let answer = answer.await.map_err(broken)?;
    check(&answer, &key)?;
    let parts = match parts {
        Some(parts) => parts,
        None => connection.await,
    };
    let parts = parts.map_err(broken)?;
    Ok(Shaken { line: parts.io.into_inner(), first: parts.read_buf })
}

fn request(to: &Address, path: PathAndQuery, mut headers: HeaderMap, key: &str) -> Request<Body> {
    headers.insert(HOST, to.host_header());
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let key = HeaderValue::try_from(key).expect("base64 is visible ASCII");
    headers.insert(SEC_WEBSOCKET_KEY, key);
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    request
}

/// Checks that an answer opens the socket that was asked for, and no other (RFC 6455, section 4.1).
fn check<B>(answer: &Response<B>, key: &str) -> Result<(), OpenError> {
    let headers = answer.headers();
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let retry_after = retry_after(headers);
        return Err(OpenError::Status { status: answer.status(), retry_after });
    }
    if !one(headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(OpenError::Handshake("it upgrades to something else"));
    }
    let names_upgrade = headers.get_all(CONNECTION).iter().any(|value| {
        let mut names = value.as_bytes().split(|byte| *byte == b',');
        names.any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    if !names_upgrade {
        return Err(OpenError::Handshake("it does not upgrade the connection"));
    }
    if one(headers, &SEC_WEBSOCKET_ACCEPT) != Some(&accept_of(key.as_bytes())) {
        return Err(OpenError::Handshake("its accept key is not ours"));
    }
    if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) || headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(OpenError::Handshake("it agrees to what was not asked for"));
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(OpenError::Handshake("it has a body"));
    }
    Ok(())
}

/// The value of a header that comes once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).into_iter();
    values.next().map(HeaderValue::as_bytes).filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn answer(status: u16, headers: &[(&str, &str)]) -> Result<(), OpenError> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        check(&answer.body(()).unwrap(), KEY)
    }

    #[test]
    fn only_the_socket_that_was_asked_for_is_open() {
        let right = [("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"), ("sec-websocket-accept", ACCEPT)];
        assert!(answer(101, &right).is_ok());
        for status in [200, 204, 301, 400, 401, 426, 500, 503] {
            assert!(matches!(answer(status, &right), Err(OpenError::Status { .. })), "{status}");
        }
        for left_out in 0..3 {
            let mut some = right.to_vec();
            some.remove(left_out);
            assert!(matches!(answer(101, &some), Err(OpenError::Handshake(_))), "{some:?}");
        }
        for more in [
            ("sec-websocket-accept", ACCEPT),
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
        ] {
            let some = [&right[..], &[more]].concat();
            assert!(matches!(answer(101, &some), Err(OpenError::Handshake(_))), "{some:?}");
        }
        let wrong = [right[0], right[1], ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=")];
        assert!(matches!(answer(101, &wrong), Err(OpenError::Handshake(_))));
    }
}
