//! How fal's sockets are opened, with what, and what clients hear when they are not.

use falgate::upstream::{KeyRing, KeySource, SocketAuth, SocketSettings, UpstreamSettings};
use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::engine_support::within;
use crate::support::fake_sockets::{Answer, FakeSockets};
use crate::support::proxy_stack::{CANARY, upstream};
use crate::support::raw_fal::{RawFal, Then};
use crate::support::relay_gate::{Client, RelayGate, next, settings};

const UNAUTHORIZED: &str = r#"{"status":"error","error":"Unauthorized"}"#;

fn by_key() -> SocketSettings {
    SocketSettings { auth: SocketAuth::Key, ..SocketSettings::default() }
}

/// What a client hears on a socket that fal did not open.
async fn refusal(client: &mut Client) -> String {
    let said = client.json().await;
    assert_eq!(said["type"], "x-fal-error", "{said}");
    assert!(!said.to_string().contains("canary"), "{said}");
    client.closes(1000).await;
    said["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn fal_is_shown_a_token_for_the_one_app_and_nothing_of_the_callers() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let (mut client, mut socket) = tokio::join!(
        gate.connect_to("/110602490/lcm-sd15-i2i/realtime?fal_jwt_token=mine&max_buffering=2"),
        fal.socket()
    );
    client.text("{}").await;
    assert_eq!(next(&mut socket).await, Message::text("{}"));
    let wish = &fal.wishes()[0];
    assert_eq!(wish.header("authorization"), Some("Key canary-id:canary-secret"));
    let body: Value = serde_json::from_slice(&wish.body).unwrap();
    assert_eq!(body, json!({"allowed_apps": ["lcm-sd15-i2i"], "token_expiration": 120}));
    let handshake = &fal.handshakes()[0];
    let path = "/110602490/lcm-sd15-i2i/realtime?max_buffering=2&fal_jwt_token=canary%2Dtoken%2D0";
    assert_eq!(handshake.path_and_query, path);
    assert_eq!(handshake.header("authorization"), None);
    assert_eq!(handshake.header("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn one_token_serves_many_sockets() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let sockets = tokio::join!(gate.connect(), gate.connect(), gate.connect());
    let _ = (fal.socket().await, fal.socket().await, fal.socket().await);
    drop(sockets);
    assert_eq!((fal.wishes().len(), fal.handshakes().len()), (1, 3));
}

#[tokio::test]
async fn the_key_itself_goes_in_a_header_where_the_operator_says_so() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, by_key()).await;
    let _pair = gate.pair(&fal).await;
    assert!(fal.wishes().is_empty());
    let handshake = &fal.handshakes()[0];
    assert_eq!(handshake.header("authorization"), Some("Key canary-id:canary-secret"));
    assert_eq!(handshake.path_and_query, "/fal-ai/lcm-sd15-i2i/realtime?max_buffering=2");
}

#[tokio::test]
async fn a_key_that_fal_refuses_makes_way_for_the_next() {
    let fal = FakeSockets::scripted(|seen| match seen.header("authorization") {
        Some("Key second:secret") => Answer::Open,
        _ => Answer::Status(401, "no user found"),
    })
    .await;
    let sources = ["FIRST", "SECOND"].map(|name| KeySource::Env(name.to_owned()));
    let keys = KeyRing::open(&sources, |name| Some(format!("{}:secret", name.to_lowercase()))).unwrap();
    let gate = RelayGate::with(settings(&fal, by_key()), keys, |layer| layer).await;
    let _first = gate.pair(&fal).await;
    let _second = gate.pair(&fal).await;
    let shown: Vec<_> = fal.handshakes().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(shown, ["Key first:secret", "Key second:secret", "Key second:secret"], "the first one rests");
}

#[tokio::test]
async fn sockets_are_relayed_over_tls_too() {
    let fal = FakeSockets::secure().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    for size in [10, 1_000_000] {
        client.send(Message::binary(vec![5; size])).await;
        assert_eq!(next(&mut socket).await.len(), size);
        within(socket.send(Message::binary(vec![6; size]))).await.unwrap();
        assert_eq!(client.next().await.len(), size);
    }
}

#[tokio::test]
async fn an_unknown_certificate_opens_nothing_and_sees_no_key() {
    let fal = FakeSockets::secure().await;
    let settings = UpstreamSettings { ca_file: None, ..settings(&fal, by_key()) };
    let gate = RelayGate::with(settings, KeyRing::single(CANARY.to_owned()).unwrap(), |layer| layer).await;
    assert_eq!(refusal(&mut gate.connect().await).await, "UPSTREAM_UNREACHABLE");
    assert!(fal.handshakes().is_empty());
}

#[tokio::test]
async fn a_socket_that_fal_does_not_open_is_told_on_the_socket_and_closed() {
    for (status, error) in [
        (401, "UPSTREAM_REFUSED"),
        (403, "UPSTREAM_REFUSED"),
        (404, "NOT_FOUND"),
        (429, "RATE_LIMITED"),
        (500, "UPSTREAM_FAILED"),
        (503, "UPSTREAM_FAILED"),
        (200, "UPSTREAM_FAILED"),
    ] {
        let fal = FakeSockets::scripted(move |_| Answer::Status(status, "canary of the upstream")).await;
        let gate = RelayGate::to(&fal, SocketSettings::default()).await;
        assert_eq!(refusal(&mut gate.connect().await).await, error, "{status}");
        assert_eq!(gate.metric("falgate_relay_unopened_total"), 1.0);
        assert_eq!(gate.metric("falgate_relay_open"), 0.0);
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_on_the_socket() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let settings = UpstreamSettings { sockets: by_key(), ..upstream(&format!("http://{nobody}")) };
    let gate = RelayGate::with(settings, KeyRing::single(CANARY.to_owned()).unwrap(), |layer| layer).await;
    assert_eq!(refusal(&mut gate.connect().await).await, "UPSTREAM_UNREACHABLE");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_does_not_answer_is_given_up_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let settings = UpstreamSettings { sockets: by_key(), ..upstream(&format!("http://{address}")) };
    let gate = RelayGate::with(settings, KeyRing::single(CANARY.to_owned()).unwrap(), |layer| layer).await;
    assert_eq!(refusal(&mut gate.connect().await).await, "UPSTREAM_TIMEOUT");
}

#[tokio::test]
async fn no_tunnel_opens_but_after_101_with_the_accept_key_of_our_own() {
    const WRONG: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x08smuggled";
    const NONE: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x08smuggled";
    const OTHER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nsmuggled";
    const OK: &[u8] =
        b"HTTP/1.1 200 OK\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 8\r\n\r\nsmuggled";
    for answer in [WRONG, NONE, OTHER, OK] {
        let fal = RawFal::start(answer, Then::KeepOpen).await;
        let settings = UpstreamSettings { sockets: by_key(), ..upstream(&fal.url()) };
        let gate = RelayGate::with(settings, KeyRing::single(CANARY.to_owned()).unwrap(), |layer| layer).await;
        let mut client = gate.connect().await;
        // The client's first words, sent before it hears, must not reach whoever answered so.
        client.text("a secret stroke").await;
        assert_eq!(refusal(&mut client).await, "UPSTREAM_FAILED");
        assert_eq!(fal.heads().len(), 1, "nothing came behind the handshake");
        let mut again = gate.connect().await;
        refusal(&mut again).await;
        assert_eq!(fal.connections(), 2, "such a connection is never used again");
    }
}

/// What raw bytes are answered: the head, and whether the connection went on.
async fn probe(gate: &RelayGate, bytes: &str) -> String {
    let mut stream = TcpStream::connect(gate.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_is_no_clean_handshake_is_refused_and_dials_nobody() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let head =
        |more: &str| format!("GET /fal-ai/lcm/realtime HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n{more}\r\n");
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (bytes, status) in [
        (
            head(&format!("upgrade: websocket\r\nsec-websocket-version: 13\r\n{key}content-length: 4\r\n")) + "body",
            "400",
        ),
        (head(&format!("upgrade: websocket\r\nsec-websocket-version: 8\r\n{key}")), "426"),
        (head(&format!("upgrade: h2c\r\nsec-websocket-version: 13\r\n{key}")), "426"),
        (head("upgrade: websocket\r\nsec-websocket-version: 13\r\n"), "400"),
    ] {
        let answer = probe(&gate, &bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes} -> {answer}");
    }
    assert!(fal.handshakes().is_empty() && fal.wishes().is_empty());
}

#[tokio::test]
async fn a_token_that_fal_refuses_is_minted_again_and_the_input_is_not_lost() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let (mut client, mut first) = gate.pair(&fal).await;
    client.text("the first stroke").await;
    client.text("the newest stroke").await;
    assert_eq!(next(&mut first).await, Message::text("the first stroke"));
    assert_eq!(next(&mut first).await, Message::text("the newest stroke"));
    within(first.send(Message::text(UNAUTHORIZED))).await.unwrap();
    within(first.close(None)).await.unwrap();
    let mut second = fal.socket().await;
    assert_eq!(next(&mut second).await, Message::text("the newest stroke"));
    within(second.send(Message::text("a picture"))).await.unwrap();
    client.hears("a picture").await;
    assert_eq!(fal.wishes().len(), 2);
    assert!(fal.handshakes()[1].path_and_query.ends_with("canary%2Dtoken%2D1"));
    assert_eq!(gate.metric("falgate_relay_reconnects_total"), 1.0);
}

#[tokio::test]
async fn a_second_refusal_is_told_instead_of_tried_for_ever() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let (mut client, mut first) = gate.pair(&fal).await;
    within(first.send(Message::text(UNAUTHORIZED))).await.unwrap();
    let mut second = fal.socket().await;
    within(second.send(Message::text(UNAUTHORIZED))).await.unwrap();
    assert_eq!(refusal(&mut client).await, "UPSTREAM_REFUSED");
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"unauthorized\"}"), 1.0);
}

#[tokio::test]
async fn a_handshake_that_fal_refuses_is_tried_once_more_with_a_new_token() {
    let fal = FakeSockets::scripted(|seen| match seen.path_and_query.contains("token%2D0") {
        true => Answer::Status(401, "expired"),
        false => Answer::Open,
    })
    .await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    client.text("{}").await;
    assert_eq!(next(&mut socket).await, Message::text("{}"));
    assert_eq!(fal.wishes().len(), 2);
}

#[tokio::test]
async fn a_socket_says_nothing_of_fals_to_its_client() {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, SocketSettings::default()).await;
    // The answer to the client's handshake is looked at in `connect`: fal's own headers hold a canary.
    let (mut client, mut socket) = gate.pair(&fal).await;
    within(socket.close(Some(forbidden("canary-token-0")))).await.unwrap();
    assert_eq!(client.closes(1008).await, "");
}

fn forbidden(what: &str) -> CloseFrame {
    CloseFrame { code: CloseCode::Policy, reason: format!("Forbidden {what}").into() }
}

#[tokio::test]
async fn a_reason_that_repeats_the_key_or_token_or_a_part_of_them_reaches_nobody() {
    for echoed in [CANARY, "Key canary-id:can", "to canary-secret", "/x?fal_jwt_token=canary%2Dtoken%2D0"] {
        for auth in [SocketAuth::Key, SocketAuth::Token] {
            let is_shown = auth == SocketAuth::Token || !echoed.contains("token");
            let fal = FakeSockets::open().await;
            let gate = RelayGate::to(&fal, SocketSettings { auth, ..SocketSettings::default() }).await;
            let (mut client, mut socket) = gate.pair(&fal).await;
            within(socket.close(Some(forbidden(echoed)))).await.unwrap();
            let said = client.closes(1008).await;
            assert_eq!(said.is_empty(), is_shown, "{auth:?}: {echoed} became {said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_fal_does_not_open_counts_until_its_client_is_gone() {
    let fal = FakeSockets::scripted(|_| Answer::Status(503, "down")).await;
    let gate = RelayGate::to(&fal, by_key()).await;
    let mut client = gate.connect().await;
    assert_eq!(client.json().await["error"], "UPSTREAM_FAILED");
    assert_eq!(gate.passes(), 1, "its client has not answered the close");
    client.closes(1000).await;
    gate.no_pass_is_held().await;
}
