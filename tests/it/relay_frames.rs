//! Relayed sockets: what passes, what is counted, and what is held back.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use falgate::upstream::{InputRules, KeyRing, SocketSettings};
use falgate::wire::frame::{Opcode, write_frame};
use falgate::wire::{EndpointId, FieldError};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

use crate::engine_support::within;
use crate::support::fake_sockets::{FakeSockets, FalSocket};
use crate::support::proxy_stack::CANARY;
use crate::support::relay_gate::{Client, RelayGate, closed, next, settings};

async fn pair(sockets: SocketSettings) -> (RelayGate, Client, FalSocket) {
    let fal = FakeSockets::open().await;
    let gate = RelayGate::to(&fal, sockets).await;
    let (client, socket) = gate.pair(&fal).await;
    (gate, client, socket)
}

async fn say(socket: &mut FalSocket, message: Message) {
    within(socket.send(message)).await.unwrap();
}

#[tokio::test]
async fn text_and_binary_pass_both_ways_as_they_are() {
    let (gate, mut client, mut fal) = pair(SocketSettings::default()).await;
    let large: Vec<u8> = (0..1_048_000_u32).map(|i| (i % 251) as u8).collect();
    let messages = [
        Message::text(r#"{"prompt":"a cat"}"#),
        Message::text(""),
        Message::binary(b"\x81\xA6prompt\xA5a cat".to_vec()),
        Message::binary(vec![0; 125]),
        Message::binary(vec![1; 126]),
        Message::binary(vec![2; 65_535]),
        Message::binary(vec![3; 65_536]),
        Message::binary(large),
    ];
    for message in &messages {
        client.send(message.clone()).await;
        assert_eq!(next(&mut fal).await, *message);
        say(&mut fal, message.clone()).await;
        assert_eq!(client.next().await, *message);
    }
    let bytes: usize = messages.iter().map(Message::len).sum();
    assert_eq!(gate.metric("falgate_relay_frames_total{from=\"client\"}"), 8.0);
    assert!(gate.metric("falgate_relay_bytes_total{from=\"upstream\"}") > bytes as f64);
    drop(client);
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_messages_total{from=\"upstream\"}"), 8.0);
    assert_eq!(
        gate.metric("falgate_relay_pictures_total"),
        7.0,
        "every result of this app is a picture, unless it is empty"
    );
}

#[tokio::test]
async fn pings_and_pongs_pass_through() {
    let (_gate, mut client, mut fal) = pair(SocketSettings::default()).await;
    client.send(Message::Ping(b"alive?".to_vec().into())).await;
    assert_eq!(within(fal.next()).await.unwrap().unwrap(), Message::Ping(b"alive?".to_vec().into()));
    within(fal.flush()).await.unwrap();
    assert_eq!(within(client.socket.next()).await.unwrap().unwrap(), Message::Pong(b"alive?".to_vec().into()));
    say(&mut fal, Message::Ping(b"and you?".to_vec().into())).await;
    assert_eq!(within(client.socket.next()).await.unwrap().unwrap(), Message::Ping(b"and you?".to_vec().into()));
}

#[tokio::test]
async fn a_message_in_parts_with_a_ping_between_arrives_whole() {
    let (_gate, mut client, mut fal) = pair(SocketSettings::default()).await;
    let part =
        |opcode, text: &str, last| Message::Frame(Frame::message(text.as_bytes().to_vec(), OpCode::Data(opcode), last));
    client.send(part(Data::Text, "a ", false)).await;
    client.send(Message::Ping(Vec::new().into())).await;
    client.send(part(Data::Continue, "whole ", false)).await;
    client.send(part(Data::Continue, "message", true)).await;
    assert_eq!(next(&mut fal).await, Message::text("a whole message"));
}

#[tokio::test]
async fn a_large_message_of_either_side_ends_both_with_1009() {
    let small = || SocketSettings {
        client_message_bytes: NonZeroU64::new(1000).unwrap(),
        upstream_message_bytes: NonZeroU64::new(2000).unwrap(),
        ..SocketSettings::default()
    };
    let (gate, mut client, mut fal) = pair(small()).await;
    client.send(Message::binary(vec![0; 1000])).await;
    assert_eq!(next(&mut fal).await.len(), 1000);
    client.send(Message::binary(vec![0; 1001])).await;
    assert_eq!(closed(&mut fal).await.unwrap().code, CloseCode::Size);
    assert!(client.closes(1009).await.contains("larger than 1000 bytes"));
    gate.all_ended().await;
    assert_eq!(gate.metric("falgate_relay_ended_total{end=\"client_fault\"}"), 1.0);

    let (gate, mut client, mut fal) = pair(small()).await;
    say(&mut fal, Message::binary(vec![0; 2001])).await;
    assert!(client.closes(1009).await.contains("larger than 2000 bytes"));
    assert_eq!(closed(&mut fal).await.unwrap().code, CloseCode::Size);
    gate.all_ended().await;
}

#[tokio::test]
async fn parts_are_counted_and_too_many_end_the_socket() {
    let few = SocketSettings { fragments: NonZeroU32::new(2).unwrap(), ..SocketSettings::default() };
    let (_gate, mut client, _fal) = pair(few).await;
    client.send(Message::Frame(Frame::message("a", OpCode::Data(Data::Text), false))).await;
    client.send(Message::Frame(Frame::message("", OpCode::Data(Data::Continue), false))).await;
    client.send(Message::Frame(Frame::message("", OpCode::Data(Data::Continue), false))).await;
    client.closes(1008).await;
}

#[tokio::test]
async fn a_clients_frames_that_break_the_protocol_end_it_with_1002() {
    let reserved = FrameHeader { rsv1: true, opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    let orphan = FrameHeader { opcode: OpCode::Data(Data::Continue), ..FrameHeader::default() };
    let split = FrameHeader { is_final: false, opcode: OpCode::Control(Control::Ping), ..FrameHeader::default() };
    for header in [reserved, orphan, split] {
        let (_gate, mut client, mut fal) = pair(SocketSettings::default()).await;
        client.text("{}").await;
        assert_eq!(next(&mut fal).await, Message::text("{}"));
        client.send(Message::Frame(Frame::from_payload(header.clone(), "x".into()))).await;
        client.closes(1002).await;
        assert_eq!(closed(&mut fal).await.unwrap().code, CloseCode::Away, "{header:?} went no further");
    }
}

#[tokio::test]
async fn an_unmasked_frame_never_reaches_fal() {
    let (_gate, mut client, mut fal) = pair(SocketSettings::default()).await;
    let mut bare = Vec::new();
    write_frame(&mut bare, Opcode::Text, b"smuggled", None);
    client.socket.get_mut().write_all(&bare).await.unwrap();
    client.closes(1002).await;
    assert_eq!(closed(&mut fal).await.unwrap().code, CloseCode::Away);
}

/// Sends until the other side is not read any more, and says how many bytes that took.
async fn fill<S>(socket: &mut S) -> usize
where
    S: futures_util::Sink<Message> + Unpin,
    S::Error: std::fmt::Debug,
{
    let (mut sent, mut idle) = (0, 0);
    while idle < 200 {
        match socket.send(Message::binary(vec![7; 60_000])).now_or_never() {
            Some(result) => {
                result.unwrap();
                (sent, idle) = (sent + 60_000, 0);
            }
            None => {
                // What is buffered is pushed on; the tunnel gets its turns.
                let _ = socket.flush().now_or_never();
                tokio::time::timeout(std::time::Duration::from_millis(1), std::future::pending::<()>())
                    .await
                    .unwrap_err();
                idle += 1;
            }
        }
        assert!(sent < 200_000_000, "nothing holds the writer back");
    }
    sent
}

fn unhurried() -> SocketSettings {
    SocketSettings {
        bytes_per_s: NonZeroU64::new(1 << 40).unwrap(),
        bytes_burst: NonZeroU64::new(1 << 40).unwrap(),
        frames_per_s: NonZeroU32::new(u32::MAX).unwrap(),
        frames_burst: NonZeroU32::new(u32::MAX).unwrap(),
        ..SocketSettings::default()
    }
}

#[tokio::test]
async fn a_reader_that_stalls_stops_the_writer_on_the_far_side() {
    let (gate, mut client, mut fal) = pair(unhurried()).await;
    let sent = fill(&mut fal).await;
    let read = gate.metric("falgate_relay_bytes_total{from=\"upstream\"}");
    assert!(read < sent as f64 + 1_000_000.0);
    // Two kernels' buffers and one of ours: what lies between is bounded, however long the writer waits.
    let more = fill(&mut fal).await;
    assert!(more <= 600_000, "{more} bytes more went in while nobody read");
    // And all of it arrives once the client reads.
    let reading = async {
        let mut bytes = 0;
        while bytes < sent + more {
            bytes += client.next().await.len();
        }
        bytes
    };
    let flushing = async { within(fal.flush()).await.unwrap() };
    let (bytes, ()) = tokio::join!(reading, flushing);
    assert!(bytes >= sent + more);
}

#[tokio::test]
async fn an_upstream_that_stalls_stops_its_client() {
    let (gate, mut client, mut fal) = pair(unhurried()).await;
    fill(&mut client.socket).await;
    let more = fill(&mut client.socket).await;
    assert!(more <= 600_000, "{more}");
    assert_eq!(gate.metric("falgate_relay_open"), 1.0);
    assert_eq!(next(&mut fal).await.len(), 60_000);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_fast_is_read_more_slowly_and_loses_nothing() {
    let slow = SocketSettings {
        frames_per_s: NonZeroU32::new(10).unwrap(),
        frames_burst: NonZeroU32::new(5).unwrap(),
        ..SocketSettings::default()
    };
    let (_gate, mut client, mut fal) = pair(slow).await;
    let began = tokio::time::Instant::now();
    for number in 0..25 {
        client.text(&number.to_string()).await;
        assert_eq!(next(&mut fal).await, Message::text(number.to_string()));
    }
    let took = began.elapsed().as_millis();
    assert!((1_800..=2_500).contains(&took), "25 frames took {took} ms");
}

/// Lets `num_inference_steps` be 8 at most, and puts it in where it is missing.
#[derive(Debug)]
struct AtMostEight;

impl InputRules for AtMostEight {
    fn concern(&self, endpoint: &EndpointId) -> bool {
        endpoint.as_str() == "fal-ai/lcm-sd15-i2i"
    }

    fn apply(&self, _: &EndpointId, query: Option<&str>, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
        assert_eq!(query, Some("max_buffering=2"));
        let fault = |message| vec![FieldError::at("num_inference_steps", "less_than_equal", message)];
        let mut input: Value = serde_json::from_slice(input).map_err(|_| fault("no JSON"))?;
        match input["num_inference_steps"].as_u64() {
            Some(9..) => return Err(fault("Input should be less than or equal to 8")),
            Some(_) => {}
            None => input["num_inference_steps"] = json!(4),
        }
        Ok(input.to_string().into_bytes())
    }
}

async fn ruled() -> (RelayGate, Client, FalSocket) {
    let fal = FakeSockets::open().await;
    let settings = settings(&fal, SocketSettings::default());
    let keys = KeyRing::single(CANARY.to_owned()).unwrap();
    let gate = RelayGate::with(settings, keys, |layer| layer.with_rules(Arc::new(AtMostEight))).await;
    let (client, socket) = gate.pair(&fal).await;
    (gate, client, socket)
}

#[tokio::test]
async fn a_refused_input_is_answered_here_and_the_socket_stays() {
    let (gate, mut client, mut fal) = ruled().await;
    client.text(r#"{"num_inference_steps":50,"request_id":"first"}"#).await;
    let said = client.json().await;
    assert_eq!((&said["type"], &said["request_id"]), (&json!("x-fal-error"), &json!("first")));
    assert!(said["reason"].as_str().unwrap().contains("num_inference_steps"), "{said}");
    client.text(r#"{"num_inference_steps":8,"request_id":"second"}"#).await;
    let input: Value = serde_json::from_str(next(&mut fal).await.to_text().unwrap()).unwrap();
    assert_eq!(input["request_id"], "second", "the first one went no further");
    assert_eq!(gate.metric("falgate_relay_refused_inputs_total"), 1.0);
}

#[tokio::test]
async fn rules_read_msgpack_and_answer_its_refusals_in_text() {
    let (_gate, mut client, mut fal) = ruled().await;
    let packed = |steps: u64| {
        let picture = rmpv::Value::Binary(vec![0xFF; 70_000]);
        let mut out = Vec::new();
        let fields = vec![("image_bytes".into(), picture), ("num_inference_steps".into(), steps.into())];
        rmpv::encode::write_value(&mut out, &rmpv::Value::Map(fields)).unwrap();
        Message::binary(out)
    };
    client.send(packed(9)).await;
    assert_eq!(client.json().await["type"], "x-fal-error");
    client.send(packed(8)).await;
    let sent = next(&mut fal).await;
    assert!(sent.is_binary());
    let sent = rmpv::decode::read_value(&mut &sent.into_data()[..]).unwrap();
    assert_eq!(sent["image_bytes"], rmpv::Value::Binary(vec![0xFF; 70_000]));
    client.send(Message::binary(b"\xC1 garbage".to_vec())).await;
    assert_eq!(client.json().await["type"], "x-fal-error");
}

#[tokio::test]
async fn an_input_in_parts_is_judged_as_a_whole() {
    let (_gate, mut client, mut fal) = ruled().await;
    for (opcode, text, last) in [
        (Data::Text, r#"{"num_infer"#, false),
        (Data::Continue, r#"ence_steps":50}"#, true),
        (Data::Text, r#"{"prompt":"#, false),
        (Data::Continue, r#""a cat"}"#, true),
    ] {
        client.send(Message::Frame(Frame::message(text, OpCode::Data(opcode), last))).await;
    }
    assert_eq!(client.json().await["type"], "x-fal-error");
    let input: Value = serde_json::from_str(next(&mut fal).await.to_text().unwrap()).unwrap();
    assert_eq!(input, json!({"prompt": "a cat", "num_inference_steps": 4}));
}

#[tokio::test]
async fn a_refusal_waits_for_the_end_of_a_message_under_way() {
    let (gate, mut client, mut fal) = ruled().await;
    say(&mut fal, Message::text("a result that is whole")).await;
    client.hears("a result that is whole").await;
    say(&mut fal, Message::Frame(Frame::message("one ", OpCode::Data(Data::Text), false))).await;
    gate.until("falgate_relay_frames_total{from=\"upstream\"}", 2.0).await;
    client.text(r#"{"num_inference_steps":50}"#).await;
    client.text(r#"{"num_inference_steps":1}"#).await;
    next(&mut fal).await;
    say(&mut fal, Message::Frame(Frame::message("message", OpCode::Data(Data::Continue), true))).await;
    client.hears("one message").await;
    assert_eq!(client.json().await["type"], "x-fal-error");
}
