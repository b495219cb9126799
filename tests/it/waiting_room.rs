//! The waiting room: who waits is told where it stands, and its turn comes in order.

use std::num::{NonZeroU64, NonZeroUsize};

use falgate::engine::FakePart;
use falgate::host::waiting::WaitingSettings;
use http::Method;
use serde_json::{Value, json};

use crate::engine_support::within;
use crate::gate_support::{APP, ENGINE, Gate, Line, asked, detail};
use crate::host_desk::{Answer, input};
use crate::realtime_support::{Stage, TIMEOUT, metric, stroke, until_metric};

/// A gate with one place at its engine, whose callers are told apart by a forwarded address.
async fn one_place(more: &str) -> Gate {
    let room = "[host.waiting_room]\nenabled = true\nplaces = 1\ngrace_s = 8\n";
    let address = "[guard.address]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    Gate::start(&format!("{address}{ENGINE}{room}{more}")).await
}

async fn run(gate: &Gate, from: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
    Line::to(gate.address).await.send(asked(Method::POST, APP, &headers, input().to_string())).await
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_request_without_a_place_is_told_where_it_stands() {
    let gate = one_place("hold_ms = 0\nidle_s = 3600\nwaiters = 2").await;
    gate.control().hold(FakePart::Decode);
    let (first, others) = tokio::join!(within(run(&gate, "203.0.113.1")), async {
        within(gate.control().called(FakePart::Decode, 1)).await;
        let mut others = Vec::new();
        for from in ["203.0.113.2", "203.0.113.3", "203.0.113.2", "203.0.113.4"] {
            others.push(run(&gate, from).await);
        }
        gate.control().release(FakePart::Decode);
        others
    });
    assert_eq!(first.status, 200);
    assert!(others.iter().all(|answer| answer.status == 429), "{others:?}");
    let places: Vec<String> = others[..3].iter().map(|answer| header(answer, "x-falgate-queue-place")).collect();
    assert_eq!(places, ["1", "2", "1"], "who asks again keeps its place");
    assert_eq!(header(&others[0], "x-falgate-queue-wait"), "60");
    assert_eq!(header(&others[0], "retry-after"), "4", "early enough to keep the place");
    assert_eq!(detail(&others[0]), "all places are taken: you are number 1 in the queue, for about 60 s");
    assert_eq!(others[0].json()["error_type"], "concurrent_requests_limit");
    assert!(detail(&others[3]).contains("too many callers wait"));
    assert_eq!(metric(&gate, "falgate_waiting_callers").await, 2.0);
    assert_eq!(metric(&gate, "falgate_waiting_full_total").await, 1.0);
}

#[tokio::test]
async fn a_request_that_waits_long_enough_is_answered_when_its_turn_comes() {
    let gate = one_place("hold_ms = 60000\nidle_s = 1").await;
    assert_eq!(run(&gate, "203.0.113.1").await.status, 200);
    // The first caller is idle after a second; nobody has to ask again.
    let waited = within(run(&gate, "203.0.113.2")).await;
    assert_eq!(waited.status, 200, "{waited:?}");
    assert_eq!(metric(&gate, "falgate_waiting_seconds_count").await, 1.0);
}

#[tokio::test]
async fn the_tabs_of_one_caller_do_not_wait_for_each_other() {
    let gate = one_place("hold_ms = 0").await;
    gate.control().hold(FakePart::Decode);
    let (first, second) = tokio::join!(within(run(&gate, "203.0.113.1")), async {
        within(gate.control().called(FakePart::Decode, 1)).await;
        let second = run(&gate, "203.0.113.1");
        let release = async { gate.control().release(FakePart::Decode) };
        tokio::join!(within(second), release).0
    });
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
}

#[tokio::test]
async fn a_drain_does_not_let_requests_wait_for_a_place() {
    let gate = one_place("hold_ms = 60000\nidle_s = 3600").await;
    assert_eq!(run(&gate, "203.0.113.1").await.status, 200);
    let waits = async {
        until_metric(&gate, "falgate_waiting_callers", 1.0).await;
        gate.ask_to_stop();
    };
    let (waited, ()) = tokio::join!(within(run(&gate, "203.0.113.2")), waits);
    assert_eq!((waited.status.as_u16(), detail(&waited).contains("shutting down")), (503, true), "{waited:?}");
}

pub(crate) fn settings(idle_s: u64) -> WaitingSettings {
    WaitingSettings {
        enabled: true,
        places: NonZeroUsize::MIN,
        idle_s: NonZeroU64::new(idle_s).unwrap(),
        grace_s: NonZeroU64::MIN,
        ..WaitingSettings::default()
    }
}

fn place(note: &Value) -> u64 {
    assert_eq!((&note["type"], &note["action"]), (&json!("x-fal-message"), &json!("waiting")), "{note}");
    assert!(note["wait_s"].as_u64().unwrap() >= 1);
    note["place"].as_u64().unwrap()
}

#[tokio::test]
async fn pages_wait_in_order_and_are_told_and_get_their_picture_on_the_same_socket() {
    let stage = Stage::with_places(&settings(1)).await;
    let mut ann = stage.page(256 * 1024, "?caller=ann").await;
    let mut bob = stage.page(256 * 1024, "?caller=bob").await;
    let mut cid = stage.page(256 * 1024, "?caller=cid").await;
    ann.text(&stroke("a")).await;
    assert_eq!(ann.next_text().await["request_id"], "a");
    bob.text(&stroke("b1")).await;
    assert_eq!(place(&bob.next_text().await), 1);
    cid.text(&stroke("c")).await;
    assert_eq!(place(&cid.next_text().await), 2);
    // The newest input is the one that is painted when the turn comes.
    bob.text(&stroke("b2")).await;
    let mut heard = within(bob.next_text()).await;
    while heard["action"] == "waiting" {
        heard = within(bob.next_text()).await;
    }
    assert_eq!(heard["request_id"], "b2");
    assert_eq!(place(&within(cid.next_text()).await), 1);
    assert_eq!(within(cid.next_text()).await["request_id"], "c");
}

#[tokio::test]
async fn a_page_that_goes_away_leaves_the_queue() {
    let stage = Stage::with_places(&settings(3600)).await;
    let mut ann = stage.page(256 * 1024, "?caller=ann").await;
    let mut bob = stage.page(256 * 1024, "?caller=bob").await;
    let mut cid = stage.page(256 * 1024, "?caller=cid").await;
    ann.text(&stroke("a")).await;
    ann.next_text().await;
    bob.text(&stroke("b")).await;
    assert_eq!(place(&bob.next_text().await), 1);
    cid.text(&stroke("c")).await;
    assert_eq!(place(&cid.next_text().await), 2);
    drop(bob);
    assert_eq!(place(&within(cid.next_text()).await), 1, "after the time that bob had to come back");
}

#[tokio::test]
async fn a_page_that_waits_is_ended_in_silence_when_the_gate_drains() {
    let stage = Stage::with_places(&settings(3600)).await;
    let mut ann = stage.page(256 * 1024, "?caller=ann").await;
    let mut bob = stage.page(256 * 1024, "?caller=bob").await;
    ann.text(&stroke("a")).await;
    ann.next_text().await;
    bob.text(&stroke("b")).await;
    assert_eq!(place(&bob.next_text().await), 1);
    stage.drain.send_replace(true);
    assert_eq!(within(bob.last_words()).await, (vec![TIMEOUT.to_owned()], 1000));
}
