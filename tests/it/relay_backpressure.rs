//! A reader that stalls behind two gates: what the far writer can write, and where it is meanwhile.
//!
//! Bytes are counted, not times: a writer is stuck when nothing in this process can go on, which paused time shows.

use std::time::Duration;

use falgate::wire::frame::{Opcode, write_frame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::engine_support::within;
use crate::gate_support::{Certificate, FAL_KEY, Gate, fal_at};
use crate::realtime_support::Page;
use crate::support::fake_sockets::{FakeSockets, FalSocket};

/// What a gate may hold of a direction: a buffer of 64 KiB, as much that TLS has not written, a record that it has not read.
const HELD_BY_A_GATE: i64 = 64 * 1024 + 64 * 1024 + 32 * 1024;
/// Read in one go by a reader that wakes up.
const GULP: usize = 3_000_000;

/// A page at a gate, behind it another, behind that fal.
struct Chain {
    page: Page,
    fal: FalSocket,
    ports: [u16; 3],
    _gates: (Gate, Gate, Certificate),
}

impl Chain {
    async fn start() -> Self {
        const UNHURRIED: &str = "[upstream.sockets]\nframes_per_s = 4000000000\nframes_burst = 4000000000\n\
            bytes_per_s = 1000000000000\nbytes_burst = 1000000000000\nidle_s = 100000\nwrite_stall_ms = 100000000\n";
        let fal = FakeSockets::open().await;
        let certificate = Certificate::new();
        let plain = fal_at(&fal.url()).replace("\"fal-ai/flux\"", "\"fal-ai/lcm-sd15-i2i\"");
        let keys = format!("first {FAL_KEY}");
        let text = format!("{plain}{UNHURRIED}{}[guard.keys]\nenv = \"ACCESS\"\n", certificate.settings());
        let behind = Gate::start_in(&text, &[("ACCESS", &keys), ("FAL_KEY", FAL_KEY)], None).await;
        let url = format!("https://localhost:{}", behind.address.port());
        let front = format!(
            "[upstream]\nca_file = \"{}\"\naddresses = {{ run = \"{url}\", queue = \"{url}\", rest = \"{url}\" }}\n\
             {UNHURRIED}auth = \"key\"\n[proxy.targets]\nendpoints = [\"fal-ai/lcm-sd15-i2i\"]\n",
            certificate.ca_file().display()
        );
        let front = Gate::start(&front).await;
        let far_port = fal.url().rsplit(':').next().unwrap().parse().unwrap();
        let ports = [front.address.port(), behind.address.port(), far_port];
        let (page, fal) = tokio::join!(Page::open(&front), fal.socket());
        Self { page, fal, ports, _gates: (front, behind, certificate) }
    }
}

/// Bytes in the kernel's queues of connections with one of these ports, as proc(5) tells them.
fn in_the_kernel(ports: &[u16]) -> i64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let hex = |text: &str| i64::from_str_radix(text, 16).unwrap();
    let port = |address: &str| hex(address.split_once(':').unwrap().1) as u16;
    let queues = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (sent, read) = fields[4].split_once(':').unwrap();
        let is_ours = ports.contains(&port(fields[1])) || ports.contains(&port(fields[2]));
        // 01: established.
        (fields[3] == "01" && is_ours).then(|| hex(sent) + hex(read))
    });
    queues.sum()
}

/// One end writes the same frame again and again, the other reads it.
struct Flow<W, R> {
    writer: W,
    reader: R,
    frame: Vec<u8>,
    written: usize,
    read: usize,
}

impl<W: AsyncWrite + Unpin, R: AsyncRead + Unpin> Flow<W, R> {
    /// Writes until nothing between the ends takes a byte more.
    async fn fill(&mut self) {
        tokio::time::pause();
        loop {
            let at = self.written % self.frame.len();
            // Time goes on when everybody waits, and only then.
            match timeout(Duration::from_secs(1), self.writer.write(&self.frame[at..])).await {
                Ok(written) => self.written += written.unwrap(),
                Err(_) => break,
            }
            assert!(self.written < self.read + 500_000_000, "nothing holds the writer back");
        }
        tokio::time::resume();
    }

    /// Reads so much, and checks that it is what was written.
    async fn read(&mut self, bytes: usize) {
        let mut piece = vec![0; bytes];
        within(self.reader.read_exact(&mut piece)).await.unwrap();
        let begins = self.read % self.frame.len();
        let expected = self.frame.iter().cycle().skip(begins);
        assert!(piece.iter().eq(expected.take(bytes)), "what was written, {} bytes in", self.read);
        self.read += bytes;
    }

    /// Checks that what is on its way is in the kernel's buffers, but for what two gates may hold.
    async fn is_held_back(&mut self, ports: &[u16]) {
        self.fill().await;
        for _ in 0..8 {
            let on_its_way = (self.written - self.read) as i64;
            let held = on_its_way - in_the_kernel(ports);
            assert!(held <= 2 * HELD_BY_A_GATE, "two gates hold {held} of {on_its_way} bytes");
            self.read(GULP).await;
            self.fill().await;
        }
        self.read(self.written - self.read).await;
    }
}

/// A frame of a million bytes, no two of its pages the same.
fn frame(mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 4096 + at) as u8).collect();
    let mut frame = Vec::new();
    write_frame(&mut frame, Opcode::Binary, &payload, mask);
    frame
}

#[tokio::test]
async fn a_page_that_stalls_behind_two_gates_stops_fal_and_neither_gate_fills() {
    let mut chain = Chain::start().await;
    let (writer, reader) = (chain.fal.get_mut(), chain.page.socket.get_mut());
    let mut flow = Flow { writer, reader, frame: frame(None), written: 0, read: 0 };
    flow.is_held_back(&chain.ports).await;
}

#[tokio::test]
async fn a_fal_that_stalls_behind_two_gates_stops_its_page_and_neither_gate_fills() {
    let mut chain = Chain::start().await;
    let (writer, reader) = (chain.page.socket.get_mut(), chain.fal.get_mut());
    let mut flow = Flow { writer, reader, frame: frame(Some([1, 2, 3, 4])), written: 0, read: 0 };
    flow.is_held_back(&chain.ports).await;
}
