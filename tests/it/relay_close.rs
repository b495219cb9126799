//! How relayed sockets end, and what each side hears of it.

use std::num::NonZeroU64;

use falgate::upstream::SocketSettings;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tracing::Dispatch;

use crate::engine_support::within;
use crate::support::fake_sockets::{FakeSockets, FalSocket};
use crate::support::log::Log;
use crate::support::relay_gate::{Client, RelayGate, closed, next};

async fn started(sockets: SocketSettings) -> (FakeSockets, RelayGate) {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, sockets).await;
    (fal, gate)
}

fn seconds(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

/// Checks that a client hears what makes it reconnect in silence.
async fn ends_in_silence(client: &mut Client) {
    let said = client.json().await;
    assert_eq!((said["type"].as_str(), said["error"].as_str()), (Some("x-fal-error"), Some("TIMEOUT")), "{said}");
    client.closes(1000).await;
}

async fn close_with(socket: &mut FalSocket, code: u16, reason: &'static str) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
    within(socket.close(Some(frame))).await.unwrap();
}

#[tokio::test]
async fn a_clients_close_without_a_code_is_answered_with_1000() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    client.text("the last stroke").await;
    within(client.socket.close(None)).await.unwrap();
    client.closes(1000).await;
    assert_eq!(next(&mut socket).await, Message::text("the last stroke"));
    assert_eq!(closed(&mut socket).await.unwrap().code, CloseCode::Normal);
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"client_closed\"}"), 1.0);
}

#[tokio::test]
async fn a_socket_that_ended_has_a_line_that_says_whose_it_was_and_how_it_ended() {
    let log = Log::default();
    // With a single subscriber, tracing remembers what the thread that meets a line first has.
    let _second = Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let _guard = tracing::dispatcher::set_default(&Dispatch::new(
        tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish(),
    ));
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    client.text("{}").await;
    next(&mut socket).await;
    within(client.socket.close(None)).await.unwrap();
    client.closes(1000).await;
    gate.no_pass_is_held().await;
    let text = log.text();
    let line = text.lines().find(|line| line.contains("a relayed socket ended")).unwrap_or_else(|| panic!("{text}"));
    for field in
        ["endpoint=\"fal-ai/lcm-sd15-i2i\"", "caller=\"painter\"", "end=\"client_closed\"", "messages_in=1", "seconds="]
    {
        assert!(line.contains(field), "{field} in {line}");
    }
}

#[tokio::test]
async fn a_clients_code_and_reason_reach_fal() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    let close = CloseFrame { code: CloseCode::from(4000), reason: "done drawing".into() };
    within(client.socket.close(Some(close.clone()))).await.unwrap();
    assert_eq!(closed(&mut socket).await, Some(close));
    client.closes(4000).await;
}

#[tokio::test]
async fn fals_close_reaches_the_client_with_its_code() {
    for (code, reason) in
        [(1000, ""), (1001, "restart"), (1008, "Forbidden"), (1011, "Error while forwarding"), (4001, "x")]
    {
        let (fal, gate) = started(SocketSettings::default()).await;
        let (mut client, mut socket) = gate.pair(&fal).await;
        within(socket.send(Message::text("the last picture"))).await.unwrap();
        close_with(&mut socket, code, reason).await;
        client.hears("the last picture").await;
        assert_eq!(client.closes(code).await, reason);
        gate.all_ended().await;
    }
}

#[tokio::test]
async fn fals_close_without_a_code_becomes_1000() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    within(socket.close(None)).await.unwrap();
    client.closes(1000).await;
}

#[tokio::test]
async fn fals_own_timeout_passes_as_it_is() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    let text = r#"{"type":"x-fal-error","error":"TIMEOUT","reason":"no inputs, reconnect when needed!"}"#;
    within(socket.send(Message::text(text))).await.unwrap();
    close_with(&mut socket, 1000, "").await;
    ends_in_silence(&mut client).await;
    assert_eq!(fal.handshakes().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_is_1011_with_a_sentence() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, socket) = gate.pair(&fal).await;
    drop(socket);
    assert_eq!(client.closes(1011).await, "the upstream broke off");
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"upstream_lost\"}"), 1.0);
}

#[tokio::test]
async fn a_client_in_the_middle_of_a_frame_is_cut_when_the_upstream_breaks_off() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    within(socket.send(Message::text("a picture"))).await.unwrap();
    client.hears("a picture").await;
    let stream = socket.get_mut();
    // The header of a binary frame of 100 bytes, and one of them.
    within(tokio::io::AsyncWriteExt::write_all(stream, &[0x82, 100, 7])).await.unwrap();
    drop(socket);
    assert!(within(client.socket.next()).await.unwrap().is_err(), "not a frame of ours within a frame of fal's");
    gate.all_ended().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_ends_fals_socket() {
    let (fal, gate) = started(SocketSettings::default()).await;
    let (client, mut socket) = gate.pair(&fal).await;
    drop(client);
    assert_eq!(closed(&mut socket).await.unwrap().code, CloseCode::Away);
    gate.all_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_socket_ends_in_silence_and_pings_do_not_keep_it() {
    let (fal, gate) = started(SocketSettings { idle_s: seconds(60), ..SocketSettings::default() }).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    let began = tokio::time::Instant::now();
    tokio::time::advance(std::time::Duration::from_secs(40)).await;
    client.text("a stroke").await;
    next(&mut socket).await;
    tokio::time::advance(std::time::Duration::from_secs(40)).await;
    client.send(Message::Ping(Vec::new().into())).await;
    assert!(matches!(within(socket.next()).await, Some(Ok(Message::Ping(_)))));
    ends_in_silence(&mut client).await;
    assert_eq!(closed(&mut socket).await.unwrap().code, CloseCode::Normal);
    let lasted = began.elapsed().as_secs();
    assert!((100..105).contains(&lasted), "{lasted} s");
    gate.all_ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_grows_old_at_times_that_differ() {
    let short = SocketSettings { life_s: seconds(1000), idle_s: seconds(5000), ..SocketSettings::default() };
    let (fal, gate) = started(short).await;
    let began = tokio::time::Instant::now();
    let mut ages = Vec::new();
    let mut pairs = Vec::new();
    for _ in 0..8 {
        pairs.push(gate.pair(&fal).await);
    }
    for (client, _) in &mut pairs {
        // Each is waited for in turn, so that an age is known only as "not later than".
        let limit = std::time::Duration::from_secs(1100);
        let said = tokio::time::timeout(limit, client.socket.next()).await.unwrap().unwrap().unwrap();
        assert!(said.to_text().unwrap().contains("TIMEOUT"), "{said:?}");
        client.closes(1000).await;
        ages.push(began.elapsed().as_millis());
    }
    assert!(ages.iter().all(|age| (890_000..=1_003_000).contains(age)), "{ages:?}");
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"old\"}"), 8.0);
}

#[tokio::test]
async fn a_drain_ends_sockets_in_silence_after_the_message_under_way() {
    let (fal, gate) = started(SocketSettings { drain_spread_ms: 50, ..SocketSettings::default() }).await;
    let (mut quiet, _quiet) = gate.pair(&fal).await;
    let (mut busy, mut socket) = gate.pair(&fal).await;
    within(socket.send(Message::text("confirmed"))).await.unwrap();
    busy.hears("confirmed").await;
    within(socket.send(Message::Frame(Frame::message("half ", OpCode::Data(Data::Text), false)))).await.unwrap();
    gate.until("falgate_relay_frames_total{from=\"upstream\"}", 2.0).await;
    gate.drain();
    ends_in_silence(&mut quiet).await;
    within(socket.send(Message::Frame(Frame::message("and half", OpCode::Data(Data::Continue), true)))).await.unwrap();
    busy.hears("half and half").await;
    ends_in_silence(&mut busy).await;
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"drained\"}"), 2.0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_given_up() {
    let stalled =
        SocketSettings { write_stall_ms: seconds(5_000), idle_s: seconds(3_000), ..SocketSettings::default() };
    let (fal, gate) = started(stalled).await;
    let (client, mut socket) = gate.pair(&fal).await;
    let flooding = async { while socket.send(Message::binary(vec![0; 100_000])).await.is_ok() {} };
    within(flooding).await;
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"client_stalled\"}"), 1.0);
    drop(client);
}
