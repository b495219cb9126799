//! With `reconnect`: fal's socket is opened anew when it breaks off, and what that may cost.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use falgate::upstream::{KeyRing, SocketSettings};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::engine_support::within;
use crate::relay_limits::{Book, WAIT};
use crate::support::fake_sockets::{Answer, FakeSockets};
use crate::support::proxy_stack::CANARY;
use crate::support::relay_gate::{RelayGate, closed, next, settings};

async fn started(sockets: SocketSettings) -> (FakeSockets, RelayGate) {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, sockets).await;
    (fal, gate)
}

/// A gate whose inputs are counted.
async fn counted() -> (Book, FakeSockets, RelayGate) {
    let fal = FakeSockets::open().await;
    let (book, keys) = (Book::default(), KeyRing::single(CANARY.to_owned()).unwrap());
    let budget = Arc::new(book.clone());
    let gate = RelayGate::with(settings(&fal, reconnecting()), keys, |layer| layer.with_budget(budget)).await;
    (book, fal, gate)
}

/// A fal that opens one socket, and others after a word of the test's.
async fn slow_to_come_back() -> (FakeSockets, RelayGate, Arc<Notify>) {
    let (word, times) = (Arc::new(Notify::new()), AtomicUsize::new(0));
    let said = Arc::clone(&word);
    let fal = FakeSockets::scripted(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Open,
        _ => Answer::After(Arc::clone(&said)),
    })
    .await;
    let gate = RelayGate::to(&fal, reconnecting()).await;
    (fal, gate, word)
}

/// Waits until fal is asked for so many sockets in all.
async fn until_dialled(fal: &FakeSockets, times: usize) {
    within(async {
        while fal.handshakes().len() < times {
            // A timer and no yield: where time is paused, it goes on only while nobody is busy.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_takes_an_input_and_breaks_off_gets_it_three_times_more_at_its_price() {
    let (book, fal, gate) = counted().await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    let began = tokio::time::Instant::now();
    client.text("a runner's end").await;
    for _ in 0..3 {
        assert_eq!(next(&mut socket).await, Message::text("a runner's end"));
        drop(socket);
        socket = fal.socket().await;
    }
    next(&mut socket).await;
    drop(socket);
    assert_eq!(client.closes(1011).await, "the upstream broke off");
    assert_eq!(fal.handshakes().len(), 4, "and never again");
    assert!(began.elapsed() >= Duration::from_millis(1250), "with a pause in between: {:?}", began.elapsed());
    assert_eq!(book.take(), ["Picture", "begin 14", "again 14", "again 14", "again 14"]);
}

#[tokio::test]
async fn an_input_that_has_its_answer_is_not_sent_again() {
    for answer in [
        Message::binary(vec![1; 100]),
        Message::text(r#"{"images":[]}"#),
        Message::text(r#"{"type":"x-fal-error","error":"X","reason":"y"}"#),
    ] {
        let (book, fal, gate) = counted().await;
        let (mut client, mut first) = gate.pair(&fal).await;
        client.text("answered").await;
        next(&mut first).await;
        within(first.send(answer)).await.unwrap();
        client.next().await;
        drop(first);
        let mut second = fal.socket().await;
        client.text("the next").await;
        assert_eq!(next(&mut second).await, Message::text("the next"));
        let said = book.take();
        assert!(!said.iter().any(|line| line.starts_with("again")), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_result_earns_new_tries_and_a_word_that_nobody_asked_for_does_not() {
    let (fal, gate) = started(reconnecting()).await;
    let (mut client, mut socket) = gate.pair(&fal).await;
    for number in 1..=6 {
        client.text("a stroke").await;
        next(&mut socket).await;
        within(socket.send(Message::text("{\"images\":[]}"))).await.unwrap();
        client.hears("{\"images\":[]}").await;
        drop(socket);
        socket = fal.socket().await;
        assert_eq!(fal.handshakes().len(), number + 1);
    }
    for _ in 0..2 {
        within(socket.send(Message::text("{\"welcome\":true}"))).await.unwrap();
        client.hears("{\"welcome\":true}").await;
        drop(socket);
        socket = fal.socket().await;
    }
    drop(socket);
    client.closes(1011).await;
}

#[tokio::test]
async fn an_input_that_may_not_be_sent_again_is_told_and_the_socket_goes_on() {
    let (book, fal, gate) = counted().await;
    let (mut client, mut first) = gate.pair(&fal).await;
    client.text(&"x".repeat(500)).await;
    next(&mut first).await;
    drop(first);
    let mut second = fal.socket().await;
    assert_eq!(client.json().await, json!({"type": "x-fal-error", "error": "RATE_LIMITED", "reason": WAIT}));
    client.text("the next").await;
    assert_eq!(next(&mut second).await, Message::text("the next"));
    assert_eq!(book.take(), ["Picture", "begin 500", "again 500", "begin 8"]);
}

#[tokio::test]
async fn an_input_that_fal_never_had_whole_is_charged_once() {
    let (book, fal, gate) = counted().await;
    let (mut client, mut first) = gate.pair(&fal).await;
    client.send(Message::Frame(Frame::message("half, ", OpCode::Data(Data::Text), false))).await;
    client.send(Message::Ping(Vec::new().into())).await;
    assert!(matches!(within(first.next()).await, Some(Ok(Message::Ping(_)))));
    drop(first);
    let mut second = fal.socket().await;
    client.send(Message::Frame(Frame::message("and half", OpCode::Data(Data::Continue), true))).await;
    assert_eq!(next(&mut second).await, Message::text("half, and half"));
    assert_eq!(book.take(), ["Picture", "begin 6", "go on 8"]);
}

#[tokio::test]
async fn inputs_that_come_while_fal_is_dialled_are_taken_and_the_newest_is_sent() {
    let (fal, gate, word) = slow_to_come_back().await;
    let (mut client, mut first) = gate.pair(&fal).await;
    client.text("first").await;
    next(&mut first).await;
    drop(first);
    until_dialled(&fal, 2).await;
    client.text("second").await;
    client.text("third").await;
    gate.until("falgate_relay_frames_total{from=\"client\"}", 3.0).await;
    word.notify_one();
    let mut second = fal.socket().await;
    assert_eq!(next(&mut second).await, Message::text("third"));
    client.text("fourth").await;
    assert_eq!(next(&mut second).await, Message::text("fourth"));
}

#[tokio::test]
async fn a_drain_does_not_wait_for_fal_to_be_dialled() {
    let (fal, gate, _word) = slow_to_come_back().await;
    let (mut client, first) = gate.pair(&fal).await;
    drop(first);
    until_dialled(&fal, 2).await;
    gate.drain();
    assert_eq!(client.json().await["error"], "TIMEOUT");
    client.closes(1000).await;
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"drained\"}"), 1.0);
}

#[tokio::test]
async fn a_client_that_closes_while_fal_is_dialled_is_answered_at_once() {
    let (fal, gate, _word) = slow_to_come_back().await;
    let (mut client, first) = gate.pair(&fal).await;
    drop(first);
    until_dialled(&fal, 2).await;
    client.text("the last stroke").await;
    within(client.socket.close(None)).await.unwrap();
    assert!(closed(&mut client.socket).await.is_some());
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"client_closed\"}"), 1.0);
    assert_eq!(gate.metric("falgate_relay_unopened_total"), 0.0, "the dial is given up, not waited for");
}

#[tokio::test]
async fn what_finds_no_room_is_counted_and_goes_on() {
    let bytes = NonZeroU64::new(100_000).unwrap();
    let little = SocketSettings { held_bytes: bytes, client_message_bytes: bytes, ..reconnecting() };
    let (fal, gate) = started(little).await;
    let (mut one, mut first) = gate.pair(&fal).await;
    one.send(Message::binary(vec![1; 90_000])).await;
    assert_eq!(next(&mut first).await.len(), 90_000);
    let (mut other, mut second) = gate.pair(&fal).await;
    other.send(Message::binary(vec![2; 90_000])).await;
    assert_eq!(next(&mut second).await.len(), 90_000);
    gate.until("falgate_relay_unheld_inputs_total", 1.0).await;
    within(first.send(Message::binary(vec![3; 10]))).await.unwrap();
    assert_eq!(one.next().await.len(), 10);
    other.send(Message::binary(vec![4; 80_000])).await;
    next(&mut second).await;
    drop(second);
    assert_eq!(next(&mut fal.socket().await).await, Message::binary(vec![4; 80_000]), "the answer made room for it");
    assert_eq!(gate.metric("falgate_relay_unheld_inputs_total"), 1.0);
}

fn reconnecting() -> SocketSettings {
    SocketSettings { reconnect: true, ..SocketSettings::default() }
}

#[tokio::test]
async fn with_reconnect_a_new_socket_gets_the_newest_input_and_the_client_hears_nothing() {
    let (fal, gate) = started(reconnecting()).await;
    let (mut client, mut first) = gate.pair(&fal).await;
    client.text("old").await;
    client.text("newest").await;
    next(&mut first).await;
    next(&mut first).await;
    within(first.send(Message::text("picture of old"))).await.unwrap();
    client.hears("picture of old").await;
    drop(first);
    let mut second = fal.socket().await;
    assert_eq!(next(&mut second).await, Message::text("newest"));
    within(second.send(Message::text("picture of newest"))).await.unwrap();
    client.hears("picture of newest").await;
    client.text("and on").await;
    assert_eq!(next(&mut second).await, Message::text("and on"));
    assert_eq!(gate.metric("falgate_relay_reconnects_total"), 1.0);
}

#[tokio::test]
async fn an_input_under_way_goes_on_at_the_new_socket() {
    let (fal, gate) = started(reconnecting()).await;
    let (mut client, mut first) = gate.pair(&fal).await;
    within(first.send(Message::text("hello"))).await.unwrap();
    client.hears("hello").await;
    client.send(Message::Frame(Frame::message("first half, ", OpCode::Data(Data::Text), false))).await;
    client.send(Message::Ping(Vec::new().into())).await;
    assert!(matches!(within(first.next()).await, Some(Ok(Message::Ping(_)))));
    drop(first);
    let mut second = fal.socket().await;
    client.send(Message::Frame(Frame::message("second half", OpCode::Data(Data::Continue), true))).await;
    assert_eq!(next(&mut second).await, Message::text("first half, second half"));
}

#[tokio::test]
async fn an_upstream_that_stays_away_is_told_after_all() {
    let times = std::sync::atomic::AtomicUsize::new(0);
    let fal = FakeSockets::scripted(move |_| match times.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Answer::Open,
        _ => Answer::Status(503, "down"),
    })
    .await;
    let gate = RelayGate::to(&fal, reconnecting()).await;
    let (mut client, first) = gate.pair(&fal).await;
    drop(first);
    assert_eq!(client.closes(1011).await, "the upstream broke off");
    assert_eq!(fal.handshakes().len(), 4);
}
