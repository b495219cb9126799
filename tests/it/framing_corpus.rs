//! Requests that could be read in two ways, each with what is wrong with it.

/// What it is called, the bytes, and what the refusal says.
pub(crate) type Case = (&'static str, &'static str, &'static str);

pub(crate) const HOST: &str = "exactly one valid host field is needed";
const LENGTH: &str = "content-length is not one plain number";
const CODING: &str = "transfer-encoding is not exactly chunked";
const TARGET: &str = "request target is not a plain path";
const LINE: &str = "line does not end in CR LF";
const NAME: &str = "field name is malformed";
pub(crate) const UPGRADE: &str = "upgrade is not a websocket handshake";

/// Doubts about where a body ends.
pub(crate) const LENGTHS: &[Case] = &[
    (
        "CL+TE",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG",
        "content-length beside transfer-encoding",
    ),
    (
        "TE+CL",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\nG",
        "content-length beside transfer-encoding",
    ),
    (
        "two CL that differ",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        LENGTH,
    ),
    ("two CL that agree", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", LENGTH),
    ("CL list", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello", LENGTH),
    ("CL +0", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +0\r\n\r\n", LENGTH),
    ("CL -1", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", LENGTH),
    ("CL hex", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello", LENGTH),
    ("CL empty", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n", LENGTH),
    ("CL beyond u64", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551617\r\n\r\n", LENGTH),
    (
        "TE chunked twice in a list",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        CODING,
    ),
    (
        "TE chunked in two fields",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CODING,
    ),
    ("TE list", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", CODING),
    ("TE identity", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n", CODING),
    ("TE with a parameter", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n0\r\n\r\n", CODING),
    (
        "TE with a vertical tab",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "field value holds a control byte",
    ),
    ("HTTP/1.0 with TE", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", CODING),
];

/// Doubts about lines and names.
pub(crate) const LINES: &[Case] = &[
    ("bare LF everywhere", "GET / HTTP/1.1\nhost: a\n\n", LINE),
    ("bare LF after a field", "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", LINE),
    ("bare LF at the end", "GET / HTTP/1.1\r\nhost: a\r\n\n", LINE),
    ("bare CR in the first line", "GET / HTTP/1.1\rhost: a\r\n\r\n", LINE),
    ("bare CR in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: 1\r\n\r\n", "field value holds a control byte"),
    ("NUL in a value", "GET / HTTP/1.1\r\nhost: a\r\nx: y\0\r\n\r\n", "field value holds a control byte"),
    ("obs-fold", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n", "field is folded over two lines"),
    ("fold in the first field", "GET / HTTP/1.1\r\n host: a\r\n\r\n", "field is folded over two lines"),
    ("space before colon", "GET / HTTP/1.1\r\nhost : a\r\n\r\n", NAME),
    ("tab before colon", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding\t: chunked\r\n\r\n0\r\n\r\n", NAME),
    ("no colon", "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", NAME),
    ("no name", "GET / HTTP/1.1\r\nhost: a\r\n: y\r\n\r\n", NAME),
    ("HTTP/0.9", "GET /\r\n\r\n", "request line is malformed"),
    ("two spaces", "GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "request line is malformed"),
    ("garbage", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n", "request line is malformed"),
];

/// Doubts about host and target.
pub(crate) const TARGETS: &[Case] = &[
    ("no Host", "GET / HTTP/1.1\r\n\r\n", HOST),
    ("two Hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", HOST),
    ("two Hosts that agree", "GET / HTTP/1.1\r\nhost: a\r\nHOST: a\r\n\r\n", HOST),
    ("empty Host", "GET / HTTP/1.1\r\nhost:\r\n\r\n", HOST),
    ("Host with user info", "GET / HTTP/1.1\r\nhost: fal.run@evil\r\n\r\n", HOST),
    ("Host with a path", "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", HOST),
    ("Host list", "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", HOST),
    ("absolute form", "GET http://fal.run/ HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
    ("absolute form, same host", "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
    ("authority form", "GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
    ("star for GET", "GET * HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
    ("fragment", "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
    ("backslash", "GET /a\\..\\b HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
    ("raw UTF-8", "GET /\u{e4} HTTP/1.1\r\nhost: a\r\n\r\n", TARGET),
];

/// Methods that could echo or tunnel, or that are none.
pub(crate) const METHODS: [&str; 9] = ["TRACE", "CONNECT", "PURGE", "TRACK", "DEBUG", "PROPFIND", "get", "GETT", "PRI"];

pub(crate) fn with_method(method: &str) -> String {
    let target = if method == "CONNECT" { "fal.run:443" } else { "/" };
    format!("{method} {target} HTTP/1.1\r\nhost: a\r\nauthorization: Key x\r\n\r\n")
}

/// Handshakes that could smuggle.
pub(crate) fn upgrades() -> [(&'static str, String); 8] {
    let up = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: ";
    let with = |rest: &str| format!("{up}{rest}");
    [
        ("h2c", with("h2c\r\n\r\n")),
        ("a list", with("websocket, h2c\r\n\r\n")),
        ("a length", with("websocket\r\ncontent-length: 4\r\n\r\nevil")),
        ("chunks", with("websocket\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("twice", with("websocket\r\nupgrade: websocket\r\n\r\n")),
        ("no connection field", "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n".to_owned()),
        ("POST", with("websocket\r\n\r\n").replacen("GET", "POST", 1)),
        ("HTTP/1.0", with("websocket\r\n\r\n").replacen("1.1", "1.0", 1)),
    ]
}

/// Broken chunks.
pub(crate) const CHUNKS: &[(&str, &str)] = &[
    ("extension", "5;a=b\r\nhello\r\n0\r\n\r\n"),
    ("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
    ("bare LF after the data", "5\r\nhello\n0\r\n\r\n"),
    ("too much data", "5\r\nhello!\r\n0\r\n\r\n"),
    ("negative", "-5\r\nhello\r\n0\r\n\r\n"),
    ("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("too many digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("space", "5 \r\nhello\r\n0\r\n\r\n"),
    ("length in a trailer", "5\r\nhello\r\n0\r\ncontent-length: 5\r\n\r\n"),
];

/// A request of these chunks, and another behind it.
pub(crate) fn chunked(chunks: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    )
}

/// All of it.
pub(crate) fn everything() -> Vec<(String, String)> {
    let fixed = [LENGTHS, LINES, TARGETS].concat();
    let mut all: Vec<_> = fixed.into_iter().map(|(what, bytes, _)| (what.to_owned(), bytes.to_owned())).collect();
    all.extend(METHODS.map(|method| (format!("method {method}"), with_method(method))));
    all.extend(upgrades().map(|(what, bytes)| (format!("upgrade: {what}"), bytes)));
    all.extend(CHUNKS.iter().map(|(what, chunks)| (format!("chunks: {what}"), chunked(chunks))));
    all
}
