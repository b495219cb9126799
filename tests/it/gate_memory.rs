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
use crate::gate_support::{FAL_KEY, fal_at};
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::program::Program;

const FLUX: &str = "https://fal.run/fal-ai/flux";
/// What a reader that stalls may cost: 128 KiB of its answer, and 64 KiB for the state of its two connections and for what the
/// allocator keeps beside them (140 to 165 KiB in all were seen).
const A_READER_KIB: u64 = 128 + 64;
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

/// A caller that asks for an answer, reads one byte of it and then no more.
struct Stalled {
    _socket: TcpStream,
    _pieces: mpsc::Sender<Result<Bytes, BodyError>>,
    poured: usize,
}

type Asked = mpsc::UnboundedReceiver<mpsc::Sender<Result<Bytes, BodyError>>>;

async fn stall(address: SocketAddr, asked: &mut Asked, count: usize) -> Vec<Stalled> {
    let mut begun = Vec::new();
    for _ in 0..count {
        let mut socket = small_socket(address).await;
        let request = format!(
            "POST /api/fal/proxy HTTP/1.1\r\nhost: a\r\nx-fal-target-url: {FLUX}\r\ncontent-type: application/json\r\n\
             content-length: 2\r\n\r\n{{}}"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let pouring = tokio::spawn(pour(within(asked.recv()).await.unwrap()));
        within(socket.read_u8()).await.unwrap();
        begun.push((socket, pouring));
    }
    let mut stalled = Vec::new();
    for (socket, pouring) in begun {
        let (poured, pieces) = pouring.await.unwrap();
        assert!(poured < ANSWER, "the whole answer was taken from a fal whose caller reads nothing");
        stalled.push(Stalled { _socket: socket, _pieces: pieces, poured });
    }
    stalled
}

#[tokio::test]
async fn readers_that_stall_cost_a_bounded_amount_each() {
    // The first ones also pay for what is made once, by the allocator for each thread above all.
    const FIRST: usize = 30;
    const READERS: usize = 120;
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
    let first = stall(address, &mut asked, FIRST).await;
    let before = gate.memory_kib("RssAnon");

    let more = stall(address, &mut asked, READERS).await;
    let grown = gate.memory_kib("RssAnon").saturating_sub(before);
    let poured: usize = more.iter().map(|one| one.poured / 1024).sum();
    println!("{READERS} stalled readers: {grown} KiB in the program, {poured} KiB taken from fal");
    assert!(grown <= READERS as u64 * A_READER_KIB, "{grown} KiB for {READERS} readers");
    drop(first);
}

#[tokio::test]
async fn limits_that_nobody_meets_take_no_memory() {
    let mut gate = Program::start("limits = { memory_bytes = 1073741824 }", &[]);
    gate.address().await;
    let taken = gate.memory_kib("RssAnon");
    assert!(taken < 64 * 1024, "{taken} KiB of a table of 1 GiB are touched");
}
