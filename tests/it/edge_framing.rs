//! Rows "CL+TE …", "two/absent Host …", "TRACE …", "Upgrade smuggling" and "underscore twins" of the security table:
//! raw bytes on a socket, and the exact answer.

use falgate::gate::accept::LimitSettings;

use crate::edge_probe::{Gate, dateless, read_until};
use crate::framing_corpus::{CHUNKS, HOST, LENGTHS, LINES, METHODS, TARGETS, UPGRADE, chunked, upgrades, with_method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The whole answer to a request that is refused before any service sees it.
fn refused(status: &str, allow: &str, detail: &str) -> String {
    let body = format!(r#"{{"detail":"{detail}","message":"{detail}"}}"#);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{allow}connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn bad(detail: &str) -> String {
    refused("400 Bad Request", "", detail)
}

async fn answers(cases: &[(&str, &str, &str)]) {
    let gate = Gate::start(&LimitSettings::default());
    for (what, request, detail) in cases {
        let answer = dateless(&gate.probe(request).await);
        assert_eq!(answer, bad(detail), "{what}");
    }
    let alive = gate.probe("GET /alive HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(alive.contains("GET /alive"), "the gate serves on: {alive}");
}

#[tokio::test]
async fn every_doubt_about_the_length_of_a_body_is_refused() {
    answers(LENGTHS).await;
}

#[tokio::test]
async fn every_doubt_about_lines_and_names_is_refused() {
    answers(LINES).await;
}

#[tokio::test]
async fn every_doubt_about_host_and_target_is_refused() {
    answers(TARGETS).await;
}

#[tokio::test]
async fn methods_that_could_echo_or_tunnel_are_refused_before_anything() {
    let gate = Gate::start(&LimitSettings::default());
    let methods = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";
    let wanted = refused(
        "405 Method Not Allowed",
        &format!("allow: {methods}\r\n"),
        &format!("method not allowed, use {methods}"),
    );
    for method in METHODS {
        let answer = gate.probe(with_method(method)).await;
        assert_eq!(dateless(&answer), wanted, "{method}");
    }
}

#[tokio::test]
async fn other_versions_are_refused() {
    let gate = Gate::start(&LimitSettings::default());
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/3.0", "HTTP/0.9"] {
        let answer = gate.probe(format!("GET / {version}\r\nhost: a\r\n\r\n")).await;
        assert_eq!(
            dateless(&answer),
            refused("505 HTTP Version Not Supported", "", "HTTP version is not taken"),
            "{version}"
        );
    }
}

#[tokio::test]
async fn heads_beyond_a_limit_are_refused() {
    let gate = Gate::start(&LimitSettings::default());
    let large = refused("431 Request Header Fields Too Large", "", "request head is too large");
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    assert_eq!(dateless(&gate.probe(long).await), large);
    let endless = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(100_000));
    assert_eq!(dateless(&gate.probe(endless).await), large, "without an end");
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
    let answer = gate.probe(many).await;
    assert_eq!(
        dateless(&answer),
        refused("431 Request Header Fields Too Large", "", "request head has too many fields")
    );
    let target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(9000));
    let answer = gate.probe(target).await;
    assert_eq!(dateless(&answer), refused("414 URI Too Long", "", "request target is too long"));
    let fits = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{}\r\n", "x: y\r\n".repeat(98));
    assert!(gate.probe(fits).await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn an_upgrade_that_could_smuggle_is_refused() {
    let cases = upgrades();
    let cases: Vec<(&str, &str, &str)> = cases.iter().map(|(what, text)| (*what, text.as_str(), UPGRADE)).collect();
    answers(&cases).await;
}

#[tokio::test]
async fn bytes_behind_a_refused_handshake_are_read_as_a_request_and_never_before() {
    let gate = Gate::start(&LimitSettings::default());
    let answer = gate
        .probe(
            "GET /no HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\
             GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
    assert!(answer.contains("GET /no ") && answer.contains("GET /next "), "{answer}");
    let smuggled = gate
        .probe(
            "GET /no HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nTRACE / HTTP/1.1\r\n\r\n",
        )
        .await;
    assert!(smuggled.contains("GET /no ") && smuggled.contains("HTTP/1.1 405 "), "{smuggled}");
}

#[tokio::test]
async fn an_accepted_handshake_opens_a_tunnel_for_any_bytes() {
    let gate = Gate::start(&LimitSettings::default());
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    socket
        .write_all(b"GET /tunnel HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    let head = read_until(&mut socket, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for word in ["no http at all\n", "trace / http/1.1\r\n\r\n"] {
        socket.write_all(word.as_bytes()).await.unwrap();
        let upper = word.to_ascii_uppercase();
        assert_eq!(read_until(&mut socket, &upper).await, upper);
    }
    assert_eq!(gate.server.connections().open(), 1, "an upgraded socket still counts");
}

#[tokio::test]
async fn broken_chunks_close_the_connection() {
    let gate = Gate::start(&LimitSettings::default());
    for (what, chunks) in CHUNKS {
        let request = chunked(chunks);
        let answer = gate.probe(request).await;
        assert!(!answer.contains("smuggled") && !answer.contains("hello"), "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), usize::from(!answer.is_empty()), "{what}: {answer}");
    }
}

#[tokio::test]
async fn sound_chunks_and_pipelined_requests_pass() {
    let gate = Gate::start(&LimitSettings::default());
    let answer = gate
        .probe(
            "\r\nPOST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 1\r\n\r\n\
             POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nokGET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
    for part in
        ["POST /a [host transfer-encoding] hello!", "POST /b [content-length host] ok", "GET /c [connection host] "]
    {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3);
}

#[tokio::test]
async fn a_violation_in_the_second_request_is_answered_after_the_first() {
    let gate = Gate::start(&LimitSettings::default());
    let answer = gate
        .probe("GET /first HTTP/1.1\r\nhost: a\r\n\r\nGET /second HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\nGET /third HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    let (first, second) = answer.split_once("GET /first [host] ").expect("the first is answered first");
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(dateless(second), bad(HOST));
}

#[tokio::test]
async fn underscore_twins_do_not_come_through() {
    let gate = Gate::start(&LimitSettings::default());
    let answer = gate
        .probe("GET / HTTP/1.1\r\nhost: a\r\nx_forwarded_for: 6.6.6.6\r\nx-fal_target-url: https://evil\r\nx-ok: 1\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.ends_with("GET / [connection host x-ok] "), "{answer}");
}

#[tokio::test]
async fn a_client_that_plays_the_edge_is_refused() {
    let gate = Gate::start(&LimitSettings::default());
    let answer =
        gate.probe("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-falgate-malformed: nonsense\r\n\r\n").await;
    assert_eq!(dateless(&answer), bad("request is malformed"));
}

#[tokio::test]
async fn an_answer_is_not_lost_though_the_request_goes_on() {
    let gate = Gate::start(&LimitSettings::default());
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    let head = "POST /unread HTTP/1.1\r\nhost: a\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    socket.write_all(&[head.as_bytes(), &[b'x'; 100_000]].concat()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert_eq!(dateless(&answer), bad(HOST));
}

#[tokio::test]
async fn http_1_0_is_served_and_closed() {
    let gate = Gate::start(&LimitSettings::default());
    let answer = gate.probe("GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("GET /old [] "), "{answer}");
}
