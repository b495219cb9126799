//! Tunnels between streams in memory, moved by hand: what happens between two turns of a task shows here alone.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::unconstrained;

use super::*;
use crate::upstream::socket::rules::InputRules;
use crate::wire::frame::{Opcode, write_frame};
use crate::wire::{EndpointId, FieldError};

/// Refuses inputs that begin with a thousand bytes.
#[derive(Debug)]
struct Short;

impl InputAccount for Short {
    fn begin(&mut self, bytes: u64) -> Result<(), Duration> {
        if bytes < 1000 { Ok(()) } else { Err(Duration::from_secs(1)) }
    }

    fn go_on(&mut self, _: u64) {}
    fn begin_again(&mut self, bytes: u64) -> Result<(), Duration> {
        self.begin(bytes)
    }

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

/// Refuses inputs that hold a `no`, and lets the others go on as they are.
#[derive(Debug)]
struct NoNo;

impl InputRules for NoNo {
    fn concern(&self, _: &EndpointId) -> bool {
        true
    }

    fn apply(&self, _: &EndpointId, _: Option<&str>, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
        let fault = || vec![FieldError::at("prompt", "missing", "Field required")];
        if input.ends_with(b"no") { Err(fault()) } else { Ok(input.to_vec()) }
    }
}

fn no_no() -> Option<Judge> {
    let rules: Arc<dyn InputRules> = Arc::new(NoNo);
    Judge::new(&rules, &EndpointId::parse("fal-ai/lcm").unwrap(), None)
}

/// A tunnel, and the far ends of both of its sides.
struct Hand {
    tunnel: Tunnel<DuplexStream, DuplexStream>,
    client: DuplexStream,
    fal: DuplexStream,
    memory: MemoryBudget,
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

/// What all inputs of these tests may fill.
const MEMORY: u64 = 200_000;

impl Hand {
    fn new() -> Self {
        Self::with(None, 1 << 20)
    }

    /// A tunnel with rules for inputs, and room for so many bytes on the way to fal.
    fn with(judge: Option<Judge>, fal_bytes: usize) -> Self {
        let ((client, near), (fal, far)) = (duplex(1 << 20), duplex(fal_bytes));
        let memory = MemoryBudget::new(MEMORY);
        let (drain, drained) = watch::channel(false);
        let terms = Terms {
            settings: &SocketSettings { reconnect: true, ..unhurried() },
            metrics: &RelayMetrics::default(),
            pool: BufferPool::new(1 << 20),
            memory: memory.clone(),
            judge,
            results: Results::Pictures,
            account: None,
            drain: drained,
        };
        let tunnel = Tunnel::new(near, far, terms);
        Self { tunnel, client, fal, memory, woken: Arc::new(Woken(AtomicBool::new(true))), _drain: drain }
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

    /// The tunnel's end, and fal's side of the next socket that is opened in its place.
    fn fal_breaks_off(&mut self) -> End {
        let (fal, far) = duplex(1 << 20);
        self.fal = fal;
        let turn = unconstrained(std::future::poll_fn(|cx| self.tunnel.poll(cx))).now_or_never();
        let end = turn.expect("the socket ended");
        assert!(self.tunnel.go_away(&end), "another can take its place");
        self.tunnel.begin_again(far);
        self.woken.0.store(true, Ordering::SeqCst);
        self.go_on();
        end
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
        let mut all = Vec::new();
        let mut bytes = vec![0; 1 << 16];
        while let Some(read) = unconstrained(self.fal.read(&mut bytes)).now_or_never() {
            all.extend_from_slice(&bytes[..read.unwrap()]);
            self.go_on();
        }
        all
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
    hand.tunnel.up_watch = UpWatch::new(hand.memory.clone()).with_account(Some(Box::new(Short)));
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

/// The first part of a message.
fn part(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = input(opcode, payload);
    frame[0] &= 0x7F;
    frame
}

#[tokio::test(start_paused = true)]
async fn an_input_is_held_until_its_answer_and_no_longer() {
    let mut hand = Hand::new();
    hand.client_says(&input(Opcode::Binary, &[1; 100_000]));
    hand.client_says(&input(Opcode::Binary, &[2; 50_000]));
    assert_eq!(hand.fal_has().len(), 150_000 + 14 + 8);
    let held = MEMORY - hand.memory.free();
    assert!((50_000..100_000).contains(&held), "{held}: the newest alone");
    hand.fal_says(&answer(Opcode::Text, br#"{"type":"x-fal-message","action":"timings"}"#));
    hand.fal_says(&answer(Opcode::Binary, b"the first picture"));
    assert_eq!(MEMORY - hand.memory.free(), held);
    hand.fal_says(&answer(Opcode::Text, br#"{"type":"x-fal-error","error":"BAD"}"#));
    assert_eq!(hand.memory.free(), MEMORY, "an error is an answer too");
}

#[tokio::test(start_paused = true)]
async fn an_input_under_a_policy_is_held_until_fal_takes_it_and_a_refused_one_not_at_all() {
    let mut hand = Hand::with(no_no(), 1000);
    hand.tunnel.up_watch.newest().stop();
    hand.client_says(&part(Opcode::Text, &[b'a'; 50_000]));
    hand.client_says(&input(Opcode::Continuation, &[b'b'; 50_000]));
    assert!(hand.memory.free() <= MEMORY - 100_000, "{}", hand.memory.free());
    assert_eq!(hand.fal_has().len(), 100_000 + 14, "one frame");
    assert_eq!(hand.memory.free(), MEMORY);
    hand.client_says(&input(Opcode::Text, &[&[b'a'; 50_000][..], b"no"].concat()));
    assert_eq!((hand.memory.free(), hand.fal_has().len()), (MEMORY, 0));
}

#[tokio::test(start_paused = true)]
async fn an_input_under_a_policy_that_finds_no_room_is_told_and_goes_no_further() {
    let mut hand = Hand::with(no_no(), 1 << 20);
    let others = hand.memory.reserve(MEMORY - 20_000).unwrap();
    hand.client_says(&part(Opcode::Text, &[b'a'; 10_000]));
    hand.client_says(&part(Opcode::Continuation, &[b'a'; 50_000]));
    assert_eq!(hand.memory.free(), 20_000, "nothing of it is held any more");
    hand.client_says(&input(Opcode::Continuation, &[b'a'; 10_000]));
    let mut told = vec![0; 1000];
    let read = unconstrained(hand.client.read(&mut told)).now_or_never().unwrap().unwrap();
    let told = String::from_utf8_lossy(&told[2..read]).into_owned();
    assert!(told.contains("RATE_LIMITED") && told.contains("too many large messages"), "{told}");
    assert!(hand.fal_has().is_empty());
    hand.client_says(&input(Opcode::Text, &[b'a'; 1000]));
    assert_eq!(hand.fal_has().len(), 1008, "small ones find room, and the socket lives");
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_finds_no_room_goes_on_and_is_not_sent_again() {
    let mut hand = Hand::new();
    let others = hand.memory.reserve(MEMORY - 20_000).unwrap();
    hand.client_says(&part(Opcode::Binary, &[1; 50_000]));
    assert_eq!(hand.fal_has().len(), 50_008);
    assert_eq!(hand.fal_breaks_off(), End::UpstreamLost);
    hand.client_says(&part(Opcode::Continuation, b"more of it"));
    hand.client_says(&input(Opcode::Ping, b"alive?"));
    hand.client_says(&input(Opcode::Continuation, b"and its end"));
    assert_eq!(hand.fal_has(), input(Opcode::Ping, b"alive?"), "no part without the beginning");
    hand.client_says(&input(Opcode::Text, b"the next"));
    assert_eq!(hand.fal_has(), input(Opcode::Text, b"the next"));
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn a_message_and_a_ping_that_are_cut_by_a_new_socket_arrive_there_as_they_should() {
    let mut hand = Hand::new();
    let (first, second) = (part(Opcode::Text, b"one half and "), input(Opcode::Continuation, b"the other"));
    let ping = input(Opcode::Ping, b"alive?");
    hand.client_says(&[&first[..], &ping[..8]].concat());
    hand.fal_breaks_off();
    hand.client_says(&[&ping[8..], &second[..10]].concat());
    assert_eq!(hand.fal_has(), [&first[..], &second[..10]].concat(), "half a ping is none");
    hand.fal_breaks_off();
    hand.client_says(&second[10..]);
    assert_eq!(hand.fal_has(), [&first[..], &second[..]].concat());
}
