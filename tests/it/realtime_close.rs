//! How sockets to the engine end: idle, old, dead, drained, closed by their page, or cut off for abuse (protocol spec 6.6).

use std::num::NonZeroU64;
use std::time::Duration;

use falgate::engine::FakePart;
use falgate::host::realtime::{Farewell, RealtimeSettings};
use falgate::wire::frame::{Opcode, write_frame};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::engine_support::within;
use crate::gate_support::{ENGINE, Gate};
use crate::realtime_support::{Page, Stage, TIMEOUT, stroke, until_metric};

const ROOM: usize = 256 * 1024;
const OPEN: &str = "falgate_sockets_open{route=\"engine\"}";

fn seconds(seconds: u64) -> NonZeroU64 {
    NonZeroU64::new(seconds).unwrap()
}

/// Everything that comes until the end, as bytes.
async fn rest(page: &mut Page<DuplexStream>) -> Vec<u8> {
    let mut bytes = Vec::new();
    page.socket.get_mut().read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// A server's frames.
fn frames(frames: &[(Opcode, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (opcode, payload) in frames {
        write_frame(&mut out, *opcode, payload, None);
    }
    out
}

/// A client's frame.
fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, opcode, payload, Some([1, 2, 3, 4]));
    out
}

fn quiet_end() -> Vec<u8> {
    frames(&[(Opcode::Text, TIMEOUT.as_bytes()), (Opcode::Close, &[0x03, 0xE8])])
}

/// Waits until no connection is left.
async fn all_gone(stage: &Stage) {
    while stage.open() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn case_72_an_idle_socket_is_told_timeout_and_closed_with_1000() {
    let stage = Stage::with(RealtimeSettings { ping_s: seconds(1000), ..RealtimeSettings::default() }).await;
    let mut page = stage.page(ROOM, "").await;
    let began = Instant::now();
    let mut words = vec![0; quiet_end().len()];
    // One read: they left in one write.
    assert_eq!(page.socket.get_mut().read(&mut words).await.unwrap(), words.len());
    assert_eq!(words, quiet_end());
    assert_eq!(began.elapsed().as_secs(), 60);
    page.socket.get_mut().write_all(&masked(Opcode::Close, &[0x03, 0xE8])).await.unwrap();
    assert_eq!(rest(&mut page).await, b"");
    assert!(began.elapsed() < Duration::from_secs(61), "the page's own close ends it at once");
    all_gone(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_does_not_close_is_cut_off_soon_after_the_last_words() {
    let stage = Stage::with(RealtimeSettings { ping_s: seconds(1000), ..RealtimeSettings::default() }).await;
    let mut page = stage.page(ROOM, "").await;
    let began = Instant::now();
    assert_eq!(rest(&mut page).await, quiet_end());
    assert_eq!(began.elapsed().as_secs(), 62);
    all_gone(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_answers_no_ping_is_reaped() {
    let settings = RealtimeSettings { idle_s: seconds(1000), ..RealtimeSettings::default() };
    let stage = Stage::with(settings).await;
    let mut page = stage.page(ROOM, "").await;
    let began = Instant::now();
    assert_eq!(rest(&mut page).await, frames(&[(Opcode::Ping, b"")]));
    assert_eq!(began.elapsed().as_secs(), 40);
    all_gone(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn case_84_pings_are_answered_both_ways_and_keep_a_socket_alive() {
    let stage = Stage::with(RealtimeSettings { idle_s: seconds(90), ..RealtimeSettings::default() }).await;
    let mut page = stage.page(ROOM, "").await;
    page.socket.send(Message::Ping(b"here?".as_slice().into())).await.unwrap();
    assert_eq!(page.socket.next().await.unwrap().unwrap(), Message::Pong(b"here?".as_slice().into()));
    let began = Instant::now();
    // The client answers pings by itself while it is read; pings keep it from being reaped, not from being idle.
    let (words, code) = page.last_words().await;
    assert_eq!((words, code, began.elapsed().as_secs()), (vec![TIMEOUT.to_owned()], 1000, 90));
}

#[tokio::test(start_paused = true)]
async fn a_socket_grows_old_however_busy_its_page_is_and_not_all_at_the_same_time() {
    let stage = Stage::with(RealtimeSettings { life_s: seconds(1000), ..RealtimeSettings::default() }).await;
    let mut ages = Vec::new();
    for _ in 0..4 {
        let mut page = stage.page(ROOM, "").await;
        let began = Instant::now();
        let closed = loop {
            match timeout(Duration::from_secs(10), page.socket.next()).await {
                // What is no input counts as one for the clock.
                Err(_elapsed) => page.socket.send(Message::text("[]")).await.unwrap(),
                Ok(Some(Ok(Message::Text(text)))) if text.as_str() == TIMEOUT => break page.close_code().await,
                Ok(Some(Ok(_))) => {}
                Ok(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(closed, 1000);
        ages.push(began.elapsed().as_secs());
    }
    assert!(ages.iter().all(|age| (900..=1010).contains(age)), "{ages:?}");
    assert!(ages.iter().any(|age| *age != ages[0]), "{ages:?}");
}

#[tokio::test(start_paused = true)]
async fn case_73_a_close_without_a_code_is_answered_with_1000() {
    let stage = Stage::with(RealtimeSettings::default()).await;
    let mut page = stage.page(ROOM, "").await;
    page.socket.get_mut().write_all(&masked(Opcode::Close, b"")).await.unwrap();
    assert_eq!(rest(&mut page).await, frames(&[(Opcode::Close, &[0x03, 0xE8])]));
    let mut page = stage.page(ROOM, "").await;
    page.socket.get_mut().write_all(&masked(Opcode::Close, b"\x0f\xa0bye")).await.unwrap();
    assert_eq!(rest(&mut page).await, frames(&[(Opcode::Close, b"\x0f\xa0bye")]), "a code is echoed");
    all_gone(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_hangs_up_or_closes_half_leaves_nothing_behind() {
    let stage = Stage::with(RealtimeSettings::default()).await;
    drop(stage.page(ROOM, "").await);
    let mut half = stage.page(ROOM, "").await;
    half.socket.get_mut().shutdown().await.unwrap();
    assert_eq!(rest(&mut half).await, b"");
    let mut torn = stage.page(ROOM, "").await;
    torn.socket.get_mut().write_all(&masked(Opcode::Text, b"a long message")[..9]).await.unwrap();
    drop(torn);
    all_gone(&stage).await;
}

#[tokio::test]
async fn a_drain_finishes_the_work_in_hand_and_ends_quietly() {
    let gate = Gate::start(ENGINE).await;
    gate.control().hold(FakePart::Step);
    let mut busy = Page::open(&gate).await;
    busy.text(&stroke("last")).await;
    within(gate.control().called(FakePart::Step, 1)).await;
    let mut idle = Page::open(&gate).await;
    gate.ask_to_stop();
    assert_eq!(idle.last_words().await, (vec![TIMEOUT.to_owned()], 1000));
    gate.control().release(FakePart::Step);
    assert_eq!(busy.next_text().await["request_id"], "last");
    assert_eq!(busy.last_words().await, (vec![TIMEOUT.to_owned()], 1000));
    let report = gate.ended().await;
    assert_eq!(report.cut, 0);
}

#[tokio::test]
async fn a_drain_says_1001_where_the_operator_wants_pages_to_see_it() {
    let gate = Gate::start(&format!("{ENGINE}[host.realtime]\nfarewell = \"going_away\"\n")).await;
    let mut page = Page::open(&gate).await;
    gate.ask_to_stop();
    assert_eq!(page.last_words().await, (Vec::new(), 1001));
    assert_eq!(gate.ended().await.cut, 0);
}

#[tokio::test]
async fn a_drain_waits_only_so_long_for_work() {
    let farewell = Farewell::GoingAway;
    // On real time: paused time would leap over the engine's thread.
    let stage = Stage::with(RealtimeSettings { farewell, finish_ms: 50, ..RealtimeSettings::default() }).await;
    let mut page = stage.page(ROOM, "").await;
    stage.control.hold(FakePart::Step);
    page.socket.send(Message::text(stroke("never").to_string())).await.unwrap();
    within(stage.control.called(FakePart::Step, 1)).await;
    stage.drain.send_replace(true);
    assert_eq!(within(page.close_code()).await, 1001);
    stage.control.release(FakePart::Step);
}

/// What a page gets that sends these bytes: its close code.
async fn abuse(gate: &Gate, bytes: &[u8]) -> u16 {
    let mut page = Page::open(gate).await;
    page.socket.get_mut().write_all(bytes).await.unwrap();
    let (words, code) = page.last_words().await;
    assert!(words.iter().all(|word| word.contains("x-fal-error")), "{words:?}");
    code
}

#[tokio::test]
async fn abuse_of_the_protocol_closes_with_the_code_that_says_what_it_was() {
    let settings = "[host.realtime]\nmessage_bytes = 10000\nfragments = 8\nframes_per_s = 10\nframes_burst = 20\n\
                    bytes_per_s = 20000\nbytes_burst = 20000\n";
    let gate = Gate::start(&format!("{ENGINE}{settings}")).await;
    let unmasked = frames(&[(Opcode::Text, b"{}")]);
    let part = |opcode, payload: &[u8]| {
        let mut bytes = masked(opcode, payload);
        bytes[0] &= 0x7F;
        bytes
    };
    let with_first = |first: u8| {
        let mut bytes = masked(Opcode::Text, b"{}");
        bytes[0] = first;
        bytes
    };
    let endless: Vec<u8> =
        [part(Opcode::Text, b""), (0..20).flat_map(|_| part(Opcode::Continuation, b"")).collect()].concat();
    for (what, bytes, code) in [
        ("an unmasked frame", unmasked, 1002),
        ("a reserved bit", with_first(0xC1), 1002),
        ("an unknown opcode", with_first(0x83), 1002),
        ("a continuation of nothing", masked(Opcode::Continuation, b"x"), 1002),
        ("a message inside of a message", [part(Opcode::Text, b"a"), masked(Opcode::Text, b"b")].concat(), 1002),
        ("text that is not UTF-8", masked(Opcode::Text, b"\xFF\xFE"), 1007),
        ("a message over the limit", masked(Opcode::Binary, &[0; 10_001]), 1009),
        ("an announced size over the limit", masked(Opcode::Binary, &[0; 100_000])[..14].to_vec(), 1009),
        ("endless fragments", endless, 1008),
        ("a flood of pings", (0..30).flat_map(|_| masked(Opcode::Ping, b"")).collect(), 1008),
        ("a flood of tiny frames", (0..30).flat_map(|_| masked(Opcode::Text, b"")).collect(), 1008),
        ("a flood of bytes", (0..3).flat_map(|_| masked(Opcode::Binary, &[0; 9000])).collect(), 1008),
    ] {
        assert_eq!(abuse(&gate, &bytes).await, code, "{what}");
    }
    until_metric(&gate, OPEN, 0.0).await;
    let mut page = Page::open(&gate).await;
    page.text(&stroke("still here")).await;
    assert_eq!(page.next_text().await["request_id"], "still here");
}

#[tokio::test]
async fn a_close_frame_that_says_nonsense_is_answered_and_ends_the_socket() {
    let gate = Gate::start(ENGINE).await;
    for (payload, code) in [(&b"\x03\xED"[..], 1002), (b"\x00\x00", 1002)] {
        let mut page = Page::open(&gate).await;
        page.socket.get_mut().write_all(&masked(Opcode::Close, payload)).await.unwrap();
        assert_eq!(page.close_code().await, code, "{payload:?}");
    }
    until_metric(&gate, OPEN, 0.0).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_rests_gives_its_buffers_back_and_goes_on() {
    let stage = Stage::with(RealtimeSettings { idle_s: seconds(1000), ..RealtimeSettings::default() }).await;
    let mut page = stage.page(ROOM, "").await;
    for round in 0..3 {
        page.socket.send(Message::text("x".repeat(50_000))).await.unwrap();
        assert!(matches!(page.socket.next().await.unwrap().unwrap(), Message::Text(_)), "{round}");
        // Long enough to be parked, and with half a message in hand to be left alone.
        sleep(Duration::from_secs(5)).await;
        let message = masked(Opcode::Text, b"[1, 2]");
        let (first, second) = message.split_at(8);
        page.socket.get_mut().write_all(first).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        page.socket.get_mut().write_all(second).await.unwrap();
        assert!(matches!(page.socket.next().await.unwrap().unwrap(), Message::Text(_)), "{round}");
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    page.socket.close(Some(close)).await.unwrap();
    assert!(timeout(Duration::from_secs(10), page.next()).await.is_ok());
    all_gone(&stage).await;
}
