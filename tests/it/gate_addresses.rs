//! Whose call it is: the PROXY protocol and forwarded headers, believed from trusted hops alone, however they are spelled.

use std::net::SocketAddr;

use http::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::engine_support::within;
use crate::gate_support::{APP, Certificate, ENGINE, Gate, Line, asked};

const LIMIT: &str =
    "[[limits.rule]]\nname = \"often\"\nof = \"requests\"\nby = \"address\"\namount = 99\nper_ms = 3600000\n";

fn config(gate: &str, address: &str) -> String {
    format!("[gate]\n{gate}\n[guard.address]\n{address}\n{ENGINE}{LIMIT}")
}

/// A header of version 2 with this command and family, these addresses, and an extension that is to be skipped.
fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let body = [addresses, &[0xEA, 0, 3, b'v', b'p', b'c']].concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[0x20 | command, family], &length, &body].concat()
}

fn ipv4() -> Vec<u8> {
    binary(1, 0x11, &[192, 0, 2, 44, 10, 0, 0, 1, 0x12, 0x67, 1, 0xBB])
}

fn ipv6() -> Vec<u8> {
    let at = |last: u8| [0x20, 1, 0x0D, 0xB8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, last];
    binary(1, 0x21, &[&at(9)[..], &at(1), &[0x12, 0x67, 1, 0xBB]].concat())
}

/// Who has called how often, as the gate counts.
async fn counted(gate: &Gate) -> Vec<(String, u64)> {
    let host = gate.admin.to_string();
    let usage = Line::to(gate.admin).await.send(asked(Method::GET, "/limits", &[("host", &host)], "")).await.json();
    let callers = usage["top"]["this_hour"].as_array().unwrap().clone();
    let read = |caller: &Value| (caller["key"].as_str().unwrap().to_owned(), caller["calls"].as_u64().unwrap());
    let mut counted: Vec<_> = callers.iter().map(read).collect();
    counted.sort();
    counted
}

/// Makes one call, and gives the key that it was counted on and the status; `None` where the connection was just closed.
async fn charged(gate: &Gate, before: &[u8], fields: &str) -> Option<(String, String)> {
    let known = counted(gate).await;
    let body = "{}";
    let call = format!(
        "POST {APP} HTTP/1.1\r\nhost: gate.test\r\ncontent-type: application/json\r\n{fields}content-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = talk(gate.address, &[before, call.as_bytes()].concat()).await;
    let now = counted(gate).await;
    let new: Vec<_> = now.into_iter().filter(|counted| !known.contains(counted)).collect();
    if answer.is_empty() {
        assert!(new.is_empty(), "nobody is charged for a call that was not taken: {new:?}");
        return None;
    }
    assert_eq!(new.len(), 1, "{new:?}: {answer}");
    Some((new[0].0.clone(), answer[9..12].to_owned()))
}

/// Sends bytes, and reads until the gate closes or resets.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = within(TcpStream::connect(address)).await.unwrap();
    // The gate may close before it has read all of it.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_callers_address_is_counted_from_the_right_over_trusted_hops_and_never_made_up() {
    const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"2001:db8:aaaa::/48\"]";
    let forwarded_is_read = format!("{TRUSTED}\nheader = \"forwarded\"");
    let line = |source: &str| format!("PROXY TCP4 {source} 10.0.0.1 4711 443\r\n").into_bytes();
    let required = "proxy_protocol = \"required\"";
    // Settings, what comes before the request, its fields, and whose call it is.
    type Case<'a> = (&'a str, &'a str, Vec<u8>, &'a str, &'a str);
    let cases: [Case<'_>; 14] = [
        ("", "", vec![], "x-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\nx-real-ip: 6.6.6.6\r\n", "127.0.0.1"),
        ("", TRUSTED, vec![], "x-forwarded-for: 6.6.6.6, 192.0.2.1\r\n", "192.0.2.1"),
        ("", TRUSTED, vec![], "x-forwarded-for: 6.6.6.6, 192.0.2.2, 10.0.0.9\r\n", "192.0.2.2"),
        ("", TRUSTED, vec![], "x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 192.0.2.3\r\n", "192.0.2.3"),
        ("", TRUSTED, vec![], "forwarded: for=6.6.6.6\r\n", "127.0.0.1"),
        ("", TRUSTED, vec![], "x-forwarded-for: 2001:db8:1:2:3:4:5:6, 2001:db8:aaaa::1\r\n", "2001:db8:1:2::"),
        ("", &forwarded_is_read, vec![], "forwarded: for=6.6.6.6, for=\"[2001:db8:9:9::1]:80\"\r\n", "2001:db8:9:9::"),
        ("", &forwarded_is_read, vec![], "x-forwarded-for: 6.6.6.6\r\n", "127.0.0.1"),
        (required, TRUSTED, line("192.0.2.5"), "x-forwarded-for: 6.6.6.6\r\n", "192.0.2.5"),
        (required, TRUSTED, line("10.0.0.9"), "x-forwarded-for: 6.6.6.6, 192.0.2.6\r\n", "192.0.2.6"),
        (required, TRUSTED, ipv4(), "forwarded: for=6.6.6.6\r\n", "192.0.2.44"),
        (required, TRUSTED, ipv6(), "", "2001:db8:0:7::"),
        (required, TRUSTED, b"PROXY UNKNOWN\r\n".to_vec(), "", "127.0.0.1"),
        (required, TRUSTED, binary(0, 0x11, b"odd"), "", "127.0.0.1"),
    ];
    for (gate, address, before, fields, whose) in cases {
        let gate = Gate::start(&config(gate, address)).await;
        let (key, status) = charged(&gate, &before, fields).await.unwrap_or_else(|| panic!("{fields}: closed"));
        assert_eq!((key, status.as_str()), (format!("address:{whose}"), "422"), "{fields}");
    }
}

#[tokio::test]
async fn a_connection_without_a_header_that_can_be_read_is_closed_without_a_word() {
    let text = config(
        "proxy_protocol = \"required\"\nlimits = { handshake_ms = 200 }",
        "trusted_proxies = [\"127.0.0.1/32\"]",
    );
    let gate = Gate::start(&text).await;
    let unix = binary(1, 0x31, &[b'x'; 216]);
    assert_eq!(charged(&gate, &unix, "").await.unwrap().0, "address:127.0.0.1", "a socket of the balancer's machine");
    let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 500]].concat();
    let huge = [&binary(1, 0x11, &[])[..14], &[0xFF, 0xFF], &[0; 5000]].concat();
    for before in [
        &b""[..],
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\n",
        b"PROXY TCP9 192.0.2.7 10.0.0.1 4711 443\r\n",
        b"PROXY TCP4 localhost 10.0.0.1 4711 443\r\n",
        b"proxy TCP4 192.0.2.7 10.0.0.1 4711 443\r\n",
        &endless,
        &huge,
        &binary(2, 0x11, &[0; 12]),
        &binary(1, 0x12, &[0; 12]),
        &binary(1, 0x11, &[]),
    ] {
        assert_eq!(charged(&gate, before, "").await, None, "{}", before.escape_ascii());
    }
    for half in [&b"PROXY TC"[..], b"\r\n\r\n\0\r\nQUIT\n\x21", b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r", b""] {
        assert_eq!(talk(gate.address, half).await, "", "one deadline for the header");
    }
    // The header is read once: a second one is no request.
    let twice = b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nPROXY TCP4 192.0.2.8 10.0.0.1 1 2\r\n\r\n";
    assert!(talk(gate.address, twice).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn nobody_but_a_trusted_proxy_may_say_for_whom_it_connects() {
    let gate = Gate::start(&config("proxy_protocol = \"required\"", "trusted_proxies = [\"10.0.0.0/8\"]")).await;
    for before in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n"[..], &ipv4(), b""] {
        assert_eq!(charged(&gate, before, "").await, None);
    }
    let off = Gate::start(&config("", "trusted_proxies = [\"127.0.0.0/8\"]")).await;
    let answer =
        talk(off.address, b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "without the switch it is a malformed request: {answer}");
}

#[tokio::test]
async fn connections_are_counted_on_the_address_behind_the_proxy() {
    let limits = "proxy_protocol = \"required\"\nlimits = { connections_per_address = 1 }";
    let gate = Gate::start(&config(limits, "trusted_proxies = [\"127.0.0.0/8\"]")).await;
    let mut first = within(TcpStream::connect(gate.address)).await.unwrap();
    first.write_all(&[&ipv4()[..], b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"].concat()).await.unwrap();
    let mut begin = [0; 12];
    within(first.read_exact(&mut begin)).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    assert!(talk(gate.address, &ipv4()).await.starts_with("HTTP/1.1 429"));
    assert!(charged(&gate, &ipv6(), "").await.is_some(), "another address has connections of its own");
    drop(first);
    within(async { while charged_or_refused(&gate).await.starts_with("HTTP/1.1 429") {} }).await;
}

async fn charged_or_refused(gate: &Gate) -> String {
    let call = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    talk(gate.address, &[&ipv4()[..], call].concat()).await
}

#[tokio::test]
async fn the_header_comes_before_tls_and_before_http2() {
    let certificate = Certificate::new();
    let text = config("proxy_protocol = \"required\"", "trusted_proxies = [\"127.0.0.0/8\"]");
    let gate = Gate::start(&format!("{text}{}", certificate.settings())).await;
    for (protocol, begin) in [(&b"h2"[..], &b"\0\0"[..]), (b"http/1.1", b"HTTP/1.1 200")] {
        let mut stream = within(TcpStream::connect(gate.address)).await.unwrap();
        stream.write_all(&ipv6()).await.unwrap();
        let mut stream = within(certificate.connect(stream, protocol)).await;
        let hello: &[u8] = match protocol {
            b"h2" => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            _ => b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
        };
        stream.write_all(hello).await.unwrap();
        let mut answer = vec![0; begin.len()];
        within(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, begin, "{}", protocol.escape_ascii());
    }
    let plain = Gate::start(&config("proxy_protocol = \"required\"", "trusted_proxies = [\"127.0.0.0/8\"]")).await;
    let mut stream = within(TcpStream::connect(plain.address)).await.unwrap();
    stream.write_all(&[&ipv4()[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"].concat()).await.unwrap();
    let mut frame = [0; 9];
    within(stream.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame[3], 4, "the gate's own SETTINGS");
}

#[test]
fn a_switch_that_would_let_nobody_in_is_a_fault() {
    let text = "gate.proxy_protocol = \"required\"";
    let faults = falgate::config::Config::load(text, &falgate::config::Environment::default()).unwrap_err();
    assert!(faults.to_string().contains("\n  gate.proxy_protocol: is `required`, but guard.address.trusted_proxies"));
}
