//! The opening handshake of a WebSocket (RFC 6455, 4.2), read and answered without I/O.

use base64_simd::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, Method, Request, Response, StatusCode, Version};
use sha1::{Digest, Sha1};

use super::{Body, Problem, ToProblem};

/// What is hashed behind a key (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Base64 of the 16 bytes that a key has.
const KEY_CHARACTERS: usize = 24;

/// A handshake that may be answered. No subprotocol and no extension is ever agreed to: what a client offers of either is
/// not looked at, which declines it.
///
/// ```
/// use falgate::wire::SocketHandshake;
///
/// let request = http::Request::get("/fal-ai/lcm-sd15-i2i/realtime")
///     .header("connection", "keep-alive, Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .body(())
///     .unwrap();
/// let answer = SocketHandshake::read(&request).unwrap().accept();
/// assert_eq!(answer.status(), 101);
/// assert_eq!(answer.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketHandshake {
    accept: [u8; 28],
}

/// Why a request is no handshake that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeFault {
    /// Another method than `GET`.
    #[error("a socket is opened with GET")]
    Method,
    /// Another version of HTTP than 1.1.
    #[error("a socket is opened over HTTP/1.1")]
    HttpVersion,
    /// `Upgrade` and `Connection` do not ask for a WebSocket.
    #[error("the request does not ask for a websocket")]
    NoUpgrade,
    /// Another version of the protocol than 13, or none.
    #[error("the version of the socket protocol is not 13")]
    SocketVersion,
    /// No key, two, or one that is not base64 of 16 bytes.
    #[error("the key of the handshake is malformed")]
    Key,
    /// The request announces a body.
    #[error("a handshake has no body")]
    HasBody,
}

impl ToProblem for HandshakeFault {
    fn to_problem(&self) -> Problem {
        match self {
            Self::Method => Problem::method_not_allowed("GET"),
            Self::SocketVersion => Problem::new(StatusCode::UPGRADE_REQUIRED, self.to_string())
                .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
                .with_header(UPGRADE, HeaderValue::from_static("websocket"))
                .with_header(CONNECTION, HeaderValue::from_static("upgrade")),
            Self::HttpVersion | Self::NoUpgrade => Problem::new(StatusCode::UPGRADE_REQUIRED, self.to_string())
                .with_header(UPGRADE, HeaderValue::from_static("websocket"))
                .with_header(CONNECTION, HeaderValue::from_static("upgrade")),
            Self::Key | Self::HasBody => Problem::new(StatusCode::BAD_REQUEST, self.to_string()),
        }
    }
}

impl SocketHandshake {
    /// Whether a request asks to become a socket at all, well or badly.
    #[must_use]
    pub fn is_asked_for(headers: &HeaderMap) -> bool {
        headers.contains_key(UPGRADE)
    }

    /// Reads a handshake.
    ///
    /// # Errors
    /// The first [`HandshakeFault`].
    pub fn read<B>(request: &Request<B>) -> Result<Self, HandshakeFault> {
        let headers = request.headers();
        if *request.method() != Method::GET {
            return Err(HandshakeFault::Method);
        }
        if request.version() != Version::HTTP_11 {
            return Err(HandshakeFault::HttpVersion);
        }
        let is_websocket = only(headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        if !is_websocket || !lists_upgrade(headers) {
            return Err(HandshakeFault::NoUpgrade);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
            return Err(HandshakeFault::SocketVersion);
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(HandshakeFault::Key)?;
        let length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
        if length || headers.contains_key(TRANSFER_ENCODING) {
            return Err(HandshakeFault::HasBody);
        }
        Ok(Self { accept: accept_of(key) })
    }

    /// The answer that makes the connection a socket: 101, without subprotocol and extensions.
    #[must_use]
    pub fn accept(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let accept = HeaderValue::from_bytes(&self.accept).expect("base64 has plain letters only");
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        response
    }
}

/// What a server answers to a key, in base64.
#[must_use]
pub fn accept_of(key: &[u8]) -> [u8; 28] {
    let digest: [u8; 20] = Sha1::new().chain_update(key).chain_update(GUID).finalize().into();
    let mut accept = [0; 28];
    let written = STANDARD.encode(&digest, base64_simd::Out::from_slice(&mut accept)).len();
    debug_assert_eq!(written, 28);
    accept
}

/// The value of a field that stands there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    second.is_none().then(|| first.as_bytes().trim_ascii())
}

fn lists_upgrade(headers: &HeaderMap) -> bool {
    let words = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.into_iter().any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

fn is_key(key: &[u8]) -> bool {
    key.len() == KEY_CHARACTERS && STANDARD.decode_to_vec(key).is_ok_and(|nonce| nonce.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut Request<()>)) -> Option<HandshakeFault> {
        let mut request = Request::get("/fal-ai/lcm/realtime")
            .header("connection", "Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
            .header("sec-websocket-protocol", "chat")
            .body(())
            .unwrap();
        change(&mut request);
        SocketHandshake::read(&request).err()
    }

    fn set(request: &mut Request<()>, name: &'static str, value: &'static str) {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }

    #[test]
    fn what_browsers_send_is_a_handshake() {
        assert_eq!(fault(|_| ()), None);
        assert_eq!(fault(|request| set(request, "connection", "keep-alive, Upgrade")), None);
        assert_eq!(fault(|request| set(request, "content-length", "0")), None);
    }

    #[test]
    fn an_extension_or_subprotocol_that_is_offered_is_declined() {
        let request = Request::get("/a/b/realtime")
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-extensions", "permessage-deflate")
            .header("sec-websocket-protocol", "chat")
            .body(())
            .unwrap();
        let answer = SocketHandshake::read(&request).unwrap().accept();
        assert!(!answer.headers().contains_key("sec-websocket-extensions"));
        assert!(!answer.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn requests_get_the_fault_they_have() {
        let cases: [(&'static str, &'static str, HandshakeFault); 7] = [
            ("upgrade", "h2c", HandshakeFault::NoUpgrade),
            ("connection", "keep-alive", HandshakeFault::NoUpgrade),
            ("sec-websocket-version", "8", HandshakeFault::SocketVersion),
            ("sec-websocket-key", "", HandshakeFault::Key),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSE=", HandshakeFault::Key),
            ("content-length", "4", HandshakeFault::HasBody),
            ("transfer-encoding", "chunked", HandshakeFault::HasBody),
        ];
        for (name, value, wanted) in cases {
            assert_eq!(fault(|request| set(request, name, value)), Some(wanted), "{name}: {value}");
        }
        assert_eq!(fault(|request| *request.method_mut() = Method::POST), Some(HandshakeFault::Method));
        assert_eq!(fault(|request| *request.version_mut() = Version::HTTP_2), Some(HandshakeFault::HttpVersion));
        let twice = |request: &mut Request<()>| {
            request.headers_mut().append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        };
        assert_eq!(fault(twice), Some(HandshakeFault::Key));
    }

    #[test]
    fn another_version_is_told_which_one_is_spoken() {
        let answer: Response<Body> = HandshakeFault::SocketVersion.to_problem().into();
        assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(answer.headers()["sec-websocket-version"], "13");
    }
}
