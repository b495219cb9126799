//! Latest wins: the newest input is rendered, a fast pen and a slow reader build no backlog, and work dies with its socket.

use falgate::engine::FakePart;
use falgate::host::realtime::RealtimeSettings;
use falgate::wire::frame::{Opcode, write_frame};
use futures_util::SinkExt as _;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

use crate::engine_support::{job, within};
use crate::gate_support::{ENGINE, Gate};
use crate::host_desk::{data_uri, encoded, input};
use crate::realtime_support::{Page, SOCKET, Stage, metric, stroke, token, until_metric};

const SUPERSEDED: &str = "falgate_socket_dropped_total{what=\"superseded\"}";
const STALE: &str = "falgate_socket_dropped_total{what=\"stale\"}";
const OPEN: &str = "falgate_sockets_open{route=\"engine\"}";

/// A page whose first stroke is on the device and stays there.
async fn holding(gate: &Gate, query: &str) -> Page {
    gate.control().hold(FakePart::Step);
    let mut page = Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={}{query}", token())).await;
    page.text(&stroke("0")).await;
    within(gate.control().called(FakePart::Step, 1)).await;
    page
}

/// Sends strokes and waits until the gate has read the last: it answers what is no input at once.
async fn draw(page: &mut Page, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        page.text(&stroke(&id.to_string())).await;
    }
    page.say(Message::text("read so far?")).await;
    assert_eq!(page.next_text().await["type"], "x-fal-error");
}

async fn ids(page: &mut Page, count: usize) -> Vec<u32> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(page.next_text().await["request_id"].as_str().unwrap().parse().unwrap());
    }
    ids
}

#[tokio::test]
async fn case_78_and_80_of_a_burst_the_newest_is_rendered_and_the_rest_is_counted() {
    let gate = Gate::start(ENGINE).await;
    let mut page = holding(&gate, "").await;
    draw(&mut page, 1..=60).await;
    gate.control().release(FakePart::Step);
    assert_eq!(ids(&mut page, 2).await, [0, 60]);
    assert_eq!(metric(&gate, SUPERSEDED).await, 59.0);
    draw(&mut page, 61..=61).await;
    assert_eq!(ids(&mut page, 1).await, [61], "and nothing of the burst comes later");
}

#[tokio::test]
async fn case_79_max_buffering_keeps_so_many_inputs_and_no_more_than_the_operator_lets() {
    for (query, settings, wanted) in [
        ("&max_buffering=1", "", vec![0, 9]),
        ("&max_buffering=3", "", vec![0, 7, 8, 9]),
        ("&max_buffering=0", "", vec![0, 9]),
        ("&max_buffering=99", "", (0..=9).collect()),
        ("&max_buffering=99", "[host.realtime]\nmost_waiting = 2\n", vec![0, 8, 9]),
        ("&max_buffering=two", "", vec![0, 9]),
    ] {
        let gate = Gate::start(&format!("{ENGINE}{settings}")).await;
        let mut page = holding(&gate, query).await;
        draw(&mut page, 1..=9).await;
        gate.control().release(FakePart::Step);
        assert_eq!(ids(&mut page, wanted.len()).await, wanted, "{query} {settings}");
    }
}

#[tokio::test]
async fn case_81_results_come_in_the_order_of_their_inputs() {
    let gate = Gate::start(ENGINE).await;
    let mut page = holding(&gate, "&max_buffering=60").await;
    // Large ones take longest to be encoded, and the small ones behind them must not overtake.
    for id in 1..=20_u32 {
        let side = if id % 3 == 1 { 768 } else { 64 };
        let mut input = stroke(&id.to_string());
        input["image_url"] = json!(data_uri("image/jpeg", &encoded(side, side, image::ImageFormat::Jpeg)));
        input["format"] = json!(if id % 3 == 1 { "png" } else { "jpeg" });
        page.text(&input).await;
    }
    gate.control().release(FakePart::Step);
    assert_eq!(ids(&mut page, 21).await, (0..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_socket_that_goes_takes_its_work_with_it_at_the_next_step() {
    let gate = Gate::start(ENGINE).await;
    let page = holding(&gate, "").await;
    drop(page);
    until_metric(&gate, OPEN, 0.0).await;
    gate.control().release(FakePart::Step);
    assert_eq!(gate.post(crate::gate_support::APP, input().to_string()).await.status, 200);
    let steps = gate.control().calls_of(FakePart::Step).len();
    assert_eq!(steps, 1 + 4, "the step that was under way, and the four of the request after it");
    assert_eq!(gate.control().calls_of(FakePart::Decode).len(), 1);
}

#[tokio::test]
async fn a_full_engine_makes_the_newest_input_wait_and_errors_nobody() {
    let gate = Gate::start(&ENGINE.replace("linger_ms = 0", "linger_ms = 0\nqueue = 1\nmax_batch = 1")).await;
    gate.control().hold(FakePart::Step);
    let running = gate.engine().submit(job(1)).unwrap();
    within(gate.control().called(FakePart::Step, 1)).await;
    let waiting = gate.engine().submit(job(2)).unwrap();
    let mut page = Page::open(&gate).await;
    draw(&mut page, 1..=5).await;
    gate.control().release(FakePart::Step);
    let mut last = 0;
    while last != 5 {
        last = ids(&mut page, 1).await[0];
    }
    assert!(metric(&gate, SUPERSEDED).await >= 3.0);
    within(running).await.unwrap();
    within(waiting).await.unwrap();
}

#[tokio::test]
async fn without_room_for_too_long_an_input_is_told_so() {
    let text = ENGINE.replace("linger_ms = 0", "linger_ms = 0\nqueue = 1\nmax_batch = 1");
    let gate = Gate::start(&format!("{text}[host.realtime]\nroom_wait_ms = 1\n")).await;
    gate.control().hold(FakePart::Step);
    let running = gate.engine().submit(job(1)).unwrap();
    within(gate.control().called(FakePart::Step, 1)).await;
    let waiting = gate.engine().submit(job(2)).unwrap();
    let mut page = Page::open(&gate).await;
    page.text(&stroke("late")).await;
    let error = page.next_text().await;
    assert_eq!((&error["error"], &error["request_id"]), (&json!("RATE_LIMITED"), &json!("late")), "{error}");
    gate.control().release(FakePart::Step);
    within(running).await.unwrap();
    within(waiting).await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_result_and_never_a_backlog() {
    let stage = Stage::with(RealtimeSettings::default()).await;
    let mut page = stage.page(4 * 1024, "").await;
    const STROKES: usize = 12;
    for id in 0..STROKES {
        // The page sends and never reads: what it is sent does not fit into the connection.
        let picture = data_uri("image/jpeg", &encoded(256, 256, image::ImageFormat::Jpeg));
        let input = json!({"prompt": "a", "image_url": picture, "request_id": id.to_string(), "format": "png"});
        page.socket.send(Message::text(input.to_string())).await.unwrap();
        within(stage.control.called(FakePart::Decode, id + 1)).await;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&(STROKES - 1)) {
        let result = page.next_text().await;
        seen.push(result["request_id"].as_str().unwrap().parse().unwrap());
    }
    assert_eq!(seen[0], 0, "what was half sent is finished");
    assert!(seen.len() <= 3 && seen.is_sorted(), "{seen:?}");
}

#[tokio::test]
async fn stale_results_and_open_sockets_show_in_the_metrics() {
    let gate = Gate::start(ENGINE).await;
    assert_eq!((metric(&gate, OPEN).await, metric(&gate, STALE).await), (0.0, 0.0));
    let mut page = Page::open(&gate).await;
    page.text(&stroke("1")).await;
    assert_eq!(page.next_text().await["request_id"], "1");
    assert_eq!(metric(&gate, OPEN).await, 1.0);
    for line in [
        "falgate_socket_frames_total{direction=\"in\",route=\"engine\"}",
        "falgate_socket_frames_total{direction=\"out\",route=\"engine\"}",
        "falgate_socket_result_seconds_count",
    ] {
        assert_eq!(metric(&gate, line).await, 1.0, "{line}");
    }
    page.socket.close(None).await.unwrap();
    until_metric(&gate, OPEN, 0.0).await;
    assert_eq!(metric(&gate, "falgate_socket_ended_total{end=\"closed\"}").await, 1.0);
}

#[tokio::test]
async fn whoever_announces_large_messages_and_sends_none_keeps_nobody_out() {
    let settings = "[host]\nmax_body_bytes = 65536\nbodies_bytes = 65536\n";
    let gate = Gate::start(&format!("{ENGINE}{settings}")).await;
    let mut liars = Vec::new();
    for _ in 0..8 {
        let mut liar = Page::open(&gate).await;
        let mut frame = Vec::new();
        write_frame(&mut frame, Opcode::Binary, &[0; 60_000], Some([1, 2, 3, 4]));
        liar.socket.get_mut().write_all(&frame[..14]).await.unwrap();
        liars.push(liar);
    }
    let mut page = Page::open(&gate).await;
    let mut input = stroke("1");
    input["padding"] = json!("x".repeat(40_000));
    for _ in 0..4 {
        page.text(&input).await;
        assert_eq!(page.next_text().await["request_id"], "1");
    }
}

#[tokio::test]
async fn messages_of_all_sockets_share_one_bound_on_memory() {
    let settings = "[host]\nmax_body_bytes = 65536\nbodies_bytes = 65536\n";
    let gate = Gate::start(&format!("{ENGINE}{settings}")).await;
    let mut page = holding(&gate, "").await;
    let mut input = stroke("1");
    input["padding"] = json!("x".repeat(40_000));
    page.text(&input).await;
    page.say(Message::text("read so far?")).await;
    assert_eq!(page.next_text().await["error"], "VALIDATION_ERROR");
    // It waits in its mailbox, and there is no room for as much again.
    let mut other = Page::open(&gate).await;
    other.text(&input).await;
    let (words, code) = other.last_words().await;
    assert_eq!((words.len(), code), (1, 1013), "{words:?}");
    assert!(words[0].contains("RATE_LIMITED"), "{words:?}");
    gate.control().release(FakePart::Step);
    assert_eq!(ids(&mut page, 2).await, [0, 1]);
    let mut other = Page::open(&gate).await;
    other.text(&input).await;
    assert_eq!(other.next_text().await["request_id"], "1", "and there is room again");
}
