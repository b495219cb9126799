//! Tunnels between streams in memory, moved by hand: what happens between two turns of a task shows here alone.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::unconstrained;

use super::*;
use crate::wire::frame::{Opcode, write_frame};

/// Refuses inputs that begin with a thousand bytes.
#[derive(Debug)]
struct Short;

impl InputAccount for Short {
    fn begin(&mut self, bytes: u64) -> Result<(), Duration> {
        if bytes < 1000 { Ok(()) } else { Err(Duration::from_secs(1)) }
    }

    fn go_on(&mut self, _: u64) {}
    fn unsent(&mut self) {}
    fn results(&mut self, _: u64) {}
    fn failures(&mut self, _: u64) {}
}

/// Whether somebody woke the tunnel.
#[derive(Debug)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A tunnel, and the far ends of both of its sides.
struct Hand {
    tunnel: Tunnel<DuplexStream, DuplexStream>,
    client: DuplexStream,
    fal: DuplexStream,
    woken: Arc<Woken>,
    _drain: watch::Sender<bool>,
}

fn unhurried() -> SocketSettings {
    SocketSettings {
        frames_per_s: NonZeroU32::MAX,
        frames_burst: NonZeroU32::MAX,
        bytes_per_s: NonZeroU64::new(1 << 40).unwrap(),
        bytes_burst: NonZeroU64::new(1 << 40).unwrap(),
        ..SocketSettings::default()
    }
}

impl Hand {
    fn new() -> Self {
        let ((client, near), (fal, far)) = (duplex(1 << 20), duplex(1 << 20));
        let (drain, drained) = watch::channel(false);
        let terms = Terms {
            settings: &unhurried(),
            metrics: &RelayMetrics::default(),
            pool: BufferPool::new(1 << 20),
            judge: None,
            results: Results::Pictures,
            account: Some(Box::new(Short)),
            drain: drained,
        };
        let tunnel = Tunnel::new(near, far, terms);
        Self { tunnel, client, fal, woken: Arc::new(Woken(AtomicBool::new(true))), _drain: drain }
    }

    /// Moves bytes for as long as somebody wakes the tunnel.
    fn go_on(&mut self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        let mut cx = Context::from_waker(&waker);
        while self.woken.0.swap(false, Ordering::SeqCst) {
            let mut turn = unconstrained(std::future::poll_fn(|cx| self.tunnel.poll(cx)));
            assert!(turn.poll_unpin(&mut cx).is_pending(), "the tunnel goes on");
        }
    }

    fn client_says(&mut self, bytes: &[u8]) {
        unconstrained(self.client.write_all(bytes)).now_or_never().expect("there is room").unwrap();
        self.go_on();
    }

    fn fal_says(&mut self, bytes: &[u8]) {
        unconstrained(self.fal.write_all(bytes)).now_or_never().expect("there is room").unwrap();
        self.go_on();
    }

    /// What has come to fal.
    fn fal_has(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let read = unconstrained(self.fal.read(&mut bytes)).now_or_never().map_or(0, Result::unwrap);
        bytes.truncate(read);
        bytes
    }
}

/// A client's frame, under a mask that changes nothing.
fn input(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, opcode, payload, Some([0; 4]));
    frame
}

fn answer(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(&mut frame, opcode, payload, None);
    frame
}

#[tokio::test(start_paused = true)]
async fn a_client_is_read_again_as_soon_as_it_has_been_told_of_its_refused_inputs() {
    let mut hand = Hand::new();
    let mut half = answer(Opcode::Text, b"one half and ");
    half[0] &= 0x7F;
    hand.fal_says(&half);
    let refused = input(Opcode::Binary, &[0; 1000]);
    // They are told between two messages of fal's, so they wait now.
    while hand.tunnel.down.waiting_between() < REPLIES {
        let before = hand.tunnel.down.waiting_between();
        hand.client_says(&refused);
        assert!(hand.tunnel.down.waiting_between() > before);
    }
    hand.client_says(&input(Opcode::Text, b"after it"));
    assert!(hand.fal_has().is_empty(), "a client that is not told is not read");
    hand.fal_says(&answer(Opcode::Continuation, b"the other"));
    assert_eq!(hand.fal_has(), input(Opcode::Text, b"after it"), "without another word of anybody's");
}
