//! Bad neighbours on sockets: what they leave behind is nothing, and painters beside them do not notice. The long version is
//! `scripts/soak-sockets.sh`.

use std::net::SocketAddr;

use falgate::wire::frame::{Opcode, write_frame};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::engine_support::within;
use crate::gate_support::{ENGINE, Gate, fal_at};
use crate::realtime_support::{Page, SOCKET, metric, packed, packed_stroke, token_from, until_metric};
use crate::support::fake_sockets::FakeSockets;

const RELAYED: &str = "/fal-ai/flux/realtime";
const GAUGES: [&str; 3] = ["falgate_connections_open ", "falgate_sockets_open ", "falgate_relay_open "];
/// Strokes of a painter, each of which is answered.
const STROKES: u32 = 12;

/// Frames that no client may send.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let mask = Some([1, 2, 3, 4]);
    let frame = |opcode, payload: &[u8]| {
        let mut frame = Vec::new();
        write_frame(&mut frame, opcode, payload, mask);
        frame
    };
    let first = |byte, mut frame: Vec<u8>| {
        frame[0] = byte;
        frame
    };
    let endless = [&[0x82, 0xff], &(u64::MAX >> 2).to_be_bytes()[..], &[1, 2, 3, 4]].concat();
    vec![
        ("not masked", b"\x82\x02hi".to_vec()),
        ("reserved opcode", first(0x83, frame(Opcode::Binary, b"hi"))),
        ("reserved bit", first(0xc2, frame(Opcode::Binary, b"hi"))),
        ("continuation of nothing", frame(Opcode::Continuation, b"hi")),
        ("fragmented ping", first(0x09, frame(Opcode::Ping, b"hi"))),
        ("message inside a message", [first(0x01, frame(Opcode::Text, b"a")), frame(Opcode::Text, b"b")].concat()),
        ("endless message", endless),
    ]
}

/// A socket of bare bytes, its handshake done.
async fn raw(gate: SocketAddr, path: &str) -> TcpStream {
    let mut stream = within(TcpStream::connect(gate)).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// Reads until the gate hangs up; a reset is as good.
async fn until_closed(mut stream: TcpStream, what: &str) {
    let end = tokio::time::timeout(std::time::Duration::from_secs(60), stream.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "the gate keeps a socket open after: {what}");
}

async fn paint(gate: SocketAddr, path: String) {
    let mut page = Page::at(gate, &path).await;
    for number in 0..STROKES {
        let id = number.to_string();
        page.pack(&packed_stroke(&id)).await;
        let shown = page.next_pack().await;
        let shown = shown.as_map().unwrap().iter().find(|(name, _)| name.as_str() == Some("request_id"));
        assert_eq!(shown.unwrap().1.as_str(), Some(&*id));
    }
    page.socket.close(None).await.unwrap();
    assert!(page.next().await.is_none_or(|last| last.is_close()));
}

async fn never_read(gate: SocketAddr, path: String) {
    let mut page = Page::at(gate, &path).await;
    for number in 0..STROKES {
        page.pack(&packed_stroke(&number.to_string())).await;
    }
}

async fn stall(gate: SocketAddr, path: String) {
    let mut stream = raw(gate, &path).await;
    let mut frame = Vec::new();
    write_frame(&mut frame, Opcode::Binary, &packed(&packed_stroke("s")), Some([9; 4]));
    stream.write_all(&frame[..frame.len() / 2]).await.unwrap();
}

async fn break_rules(gate: SocketAddr, path: String) {
    for (what, bytes) in malformed() {
        let mut stream = raw(gate, &path).await;
        stream.write_all(&bytes).await.unwrap();
        until_closed(stream, what).await;
    }
}

async fn half_close(gate: SocketAddr, path: String) {
    let mut frame = Vec::new();
    write_frame(&mut frame, Opcode::Binary, &packed(&packed_stroke("h")), Some([7; 4]));
    for bytes in [&frame[..], &frame[..5], &[]] {
        let mut stream = raw(gate, &path).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        until_closed(stream, "the end of the client's stream").await;
    }
    let mut stream = raw(gate, &path).await;
    stream.write_all(&frame).await.unwrap();
    stream.set_zero_linger().unwrap();
}

async fn reload(gate: SocketAddr, path: String) {
    for _ in 0..STROKES {
        let mut page = Page::at(gate, &path).await;
        page.pack(&packed_stroke("r")).await;
    }
}

/// Everybody at once at both kinds of sockets, until they are gone.
async fn everybody(gate: &Gate) {
    let mut actors = JoinSet::new();
    for (path, app) in [(SOCKET, "lcm-sd15-i2i"), (RELAYED, "flux")] {
        let path = format!("{path}?fal_jwt_token={}", token_from(&[app], std::time::Duration::ZERO));
        let address = gate.address;
        actors.spawn(paint(address, path.clone()));
        actors.spawn(never_read(address, path.clone()));
        actors.spawn(stall(address, path.clone()));
        actors.spawn(break_rules(address, path.clone()));
        actors.spawn(half_close(address, path.clone()));
        actors.spawn(reload(address, path.clone()));
        actors.spawn(paint(address, path));
    }
    while let Some(ended) = actors.join_next().await {
        ended.unwrap();
    }
    for gauge in GAUGES {
        until_metric(gate, gauge, 0.0).await;
    }
}

/// Waits until no more tasks live than so many.
async fn until_tasks(most: usize) {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let fallen = async {
        while tasks() > most {
            tokio::task::yield_now().await;
        }
    };
    let fallen = tokio::time::timeout(std::time::Duration::from_secs(60), fallen).await;
    assert!(fallen.is_ok(), "{} tasks live, {most} did before", tasks());
}

#[tokio::test]
async fn bad_neighbours_disturb_nobody_and_leave_nothing_behind() {
    let fal = FakeSockets::open().await;
    let gate = Gate::start(&format!("{ENGINE}{}", fal_at(&fal.url()))).await;
    // fal echoes; each of its tasks ends with its socket.
    let echo = async {
        let mut sockets = JoinSet::new();
        loop {
            let mut socket = fal.next_socket().await;
            sockets.spawn(async move {
                while let Some(Ok(message)) = socket.next().await {
                    if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
            while sockets.try_join_next().is_some() {}
        }
    };
    let soak = async {
        // What is built once, such as the connection that tokens are minted over, is built in the first round.
        everybody(&gate).await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        for _ in 0..2 {
            everybody(&gate).await;
        }
        until_tasks(tasks).await;
    };
    tokio::select! {
        () = soak => {}
        () = echo => {}
    }
    let relayed = metric(&gate, "falgate_relay_frames_total{from=\"client\"} ").await;
    assert!(relayed >= f64::from(6 * STROKES), "{relayed}");
    let run = gate.post(crate::gate_support::APP, json!({"prompt": "a", "image_url": "data:,"}).to_string()).await;
    assert_eq!(run.status.as_u16(), 422, "it still answers, and nothing holds its places: {run:?}");
    until_metric(&gate, GAUGES[0], 0.0).await;
    gate.ask_to_stop();
    let report = gate.ended().await;
    assert_eq!((report.open_at_end, report.cut), (0, 0));
}
