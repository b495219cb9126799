//! What a caller may make the program keep in memory, measured on the process itself.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use falgate::wire::BodyError;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::engine_support::within;
use crate::gate_support::{FAL_KEY, Line, fal_at, proxied};
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::program::Program;

const FLUX: &str = "https://fal.run/fal-ai/flux";
/// What a reader that stalls may cost: 128 KiB of its answer, and 32 KiB for the state of its two connections.
const A_READER_KIB: u64 = 128 + 32;
const ANSWER: usize = 50 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// A connection whose kernel keeps little of what it does not read.
async fn small_socket(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

/// Sends an answer of 50 MB, as far as anybody takes it; how much that was once nobody took more for a while.
async fn pour(pieces: mpsc::Sender<Result<Bytes, BodyError>>) -> (usize, mpsc::Sender<Result<Bytes, BodyError>>) {
    let mut sent = 0;
    while sent < ANSWER {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        match timeout(Duration::from_millis(500), pieces.send(Ok(piece))).await {
            Ok(taken) => taken.unwrap(),
            Err(_) => break,
        }
        sent += PIECE;
    }
    (sent, pieces)
}

#[tokio::test]
async fn readers_that_stall_cost_a_bounded_amount_each() {
    // So many that what threads make once, when they first meet such a call, weighs little.
    const READERS: usize = 60;
    if !std::path::Path::new("/proc/self/status").exists() {
        return println!("skipped: no /proc here");
    }
    let (ask, mut asked) = mpsc::unbounded_channel();
    let fal = FakeFal::http(move |_| {
        let (reply, pieces) = Reply::events();
        ask.send(pieces).unwrap();
        reply
    })
    .await;
    let mut gate = Program::start(&fal_at(&fal.url()), &[("FAL_KEY", FAL_KEY)]);
    let address = gate.address().await;
    // Once around, so that what is made once has been made.
    let mut first = Line::to(address).await;
    let warm = tokio::spawn(async move { first.send(proxied(FLUX, "{}")).await });
    let pieces = within(asked.recv()).await.unwrap();
    for _ in 0..64 {
        pieces.send(Ok(Bytes::from(vec![b'x'; PIECE]))).await.unwrap();
    }
    drop(pieces);
    assert_eq!(warm.await.unwrap().body.len(), 64 * PIECE);
    let before = gate.memory_kib("RssAnon");

    let mut stalled = Vec::new();
    for _ in 0..READERS {
        let mut socket = small_socket(address).await;
        let request = format!(
            "POST /api/fal/proxy HTTP/1.1\r\nhost: a\r\nx-fal-target-url: {FLUX}\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{{}}"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let pieces = within(asked.recv()).await.unwrap();
        let pouring = tokio::spawn(pour(pieces));
        within(socket.read_u8()).await.unwrap();
        stalled.push((socket, pouring));
    }
    let mut kept = Vec::new();
    let mut poured = 0;
    for (socket, pouring) in stalled {
        let (sent, pieces) = pouring.await.unwrap();
        assert!(sent < ANSWER, "the whole answer was taken from a fal whose caller reads nothing");
        poured += sent;
        kept.push((socket, pieces));
    }
    let grown = gate.memory_kib("RssAnon").saturating_sub(before);
    println!("{READERS} stalled readers: {grown} KiB in the program, {} KiB taken from fal", poured / 1024);
    assert!(grown <= READERS as u64 * A_READER_KIB, "{grown} KiB for {READERS} readers");
}

#[tokio::test]
async fn limits_that_nobody_meets_take_no_memory() {
    let mut gate = Program::start("limits = { memory_bytes = 1073741824 }", &[]);
    gate.address().await;
    let taken = gate.memory_kib("RssAnon");
    assert!(taken < 64 * 1024, "{taken} KiB of a table of 1 GiB are touched");
}
