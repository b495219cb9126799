//! What inputs on sockets cost their callers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use falgate::engine::{FakeFault, FakePart};
use falgate::guard::Subject;
use falgate::host::realtime::{FrameAsk, FrameBudget, FrameCharge, FrameReceipt, OverBudget, RealtimeSettings};
use falgate::wire::frame::{Opcode, write_frame};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::engine_support::within;
use crate::host_desk::data_uri;
use crate::realtime_support::{Stage, stroke};
use crate::waiting_room::settings as one_place;

const ROOM: usize = 256 * 1024;

/// A budget of so many pictures, for one app.
#[derive(Clone)]
struct Purse(Arc<Mutex<u32>>);

/// What was taken out of it.
struct Taken(Purse, u32);

impl FrameReceipt for Taken {
    fn superseded(self: Box<Self>) {
        self.unrendered();
    }

    fn unrendered(self: Box<Self>) {
        *self.0.0.lock().unwrap() += self.1;
    }
}

fn purse(pictures: u32) -> Purse {
    Purse(Arc::new(Mutex::new(pictures)))
}

impl FrameBudget for Purse {
    fn came(&self, subject: &Subject, bytes: u64) -> Result<(), OverBudget> {
        assert_eq!(subject.tier.as_deref(), Some("pro"), "the tier stands in the handshake's extensions");
        if bytes > 100_000 { Err(OverBudget { wait: Duration::from_millis(200) }) } else { Ok(()) }
    }

    fn charge(&self, ask: &FrameAsk<'_>) -> FrameCharge {
        assert_eq!(ask.subject.endpoint.as_ref().unwrap().as_str(), "fal-ai/lcm-sd15-i2i");
        let mut left = self.0.lock().unwrap();
        let fits = left.checked_sub(ask.pictures);
        *left = fits.unwrap_or(*left);
        let taken = Taken(self.clone(), ask.pictures);
        let outcome = fits.map(|_| Some(Box::new(taken) as Box<dyn FrameReceipt>));
        let outcome = outcome.ok_or(OverBudget { wait: Duration::from_millis(1500) });
        Box::pin(async move {
            // Whoever keeps count may be elsewhere.
            tokio::task::yield_now().await;
            outcome
        })
    }
}

#[tokio::test]
async fn an_input_over_its_callers_budget_is_told_so_and_superseded_ones_cost_nothing() {
    let stage = Stage::charging(Arc::new(purse(2))).await;
    let mut page = stage.page(256 * 1024, "").await;
    stage.control.hold(FakePart::Step);
    page.text(&stroke("0")).await;
    within(stage.control.called(FakePart::Step, 1)).await;
    for id in 1..=9 {
        page.text(&stroke(&id.to_string())).await;
    }
    page.say(Message::text("read so far?")).await;
    assert_eq!(page.next_text().await["error"], "VALIDATION_ERROR");
    stage.control.release(FakePart::Step);
    for id in ["0", "9"] {
        assert_eq!(within(page.next_text()).await["request_id"], id);
    }
    page.text(&stroke("over")).await;
    let error = within(page.next_text()).await;
    assert_eq!((&error["error"], &error["request_id"]), (&json!("RATE_LIMITED"), &json!("over")));
    assert_eq!(error["reason"], "more pictures than you may have, try again in 1.5 s");
}

#[tokio::test]
async fn an_input_of_more_bytes_than_its_caller_may_send_is_told_so_when_it_comes() {
    let stage = Stage::charging(Arc::new(purse(1))).await;
    let mut page = stage.page(256 * 1024, "").await;
    let mut large = stroke("large");
    large["padding"] = json!("x".repeat(100_000));
    page.text(&large).await;
    let error = within(page.next_text()).await;
    assert_eq!((&error["error"], &error["request_id"]), (&json!("RATE_LIMITED"), &json!("large")));
    assert_eq!(error["reason"], "more bytes than you may have, try again in 0.2 s");
    page.text(&stroke("small")).await;
    assert_eq!(within(page.next_text()).await["request_id"], "small", "the socket lives, and no picture was charged");
}

#[tokio::test]
async fn what_looks_like_the_one_before_or_is_no_picture_costs_none() {
    let stage = Stage::charging(Arc::new(purse(2))).await;
    let mut page = stage.page(ROOM, "?falgate_similar=0.05").await;
    page.text(&stroke("first")).await;
    assert_eq!(within(page.next_text()).await["request_id"], "first");
    for _ in 0..3 {
        page.text(&stroke("same")).await;
        assert_eq!(within(page.next_text()).await["action"], "similar");
        let mut broken = stroke("broken");
        broken["image_url"] = json!(data_uri("image/jpeg", b"no picture"));
        page.text(&broken).await;
        assert_eq!(within(page.next_text()).await["error"], "VALIDATION_ERROR");
    }
    let mut other = stroke("other");
    other["prompt"] = json!("something else");
    page.text(&other).await;
    assert_eq!(within(page.next_text()).await["request_id"], "other", "one picture was left");
    other["prompt"] = json!("and one more");
    page.text(&other).await;
    assert_eq!(within(page.next_text()).await["error"], "RATE_LIMITED");
}

#[tokio::test]
async fn an_input_that_gives_way_in_the_waiting_room_costs_nothing() {
    let left = purse(5);
    let stage = Stage::charging_places(Arc::new(left.clone()), &one_place(3600)).await;
    let mut ann = stage.page(ROOM, "?caller=ann").await;
    ann.text(&stroke("a")).await;
    assert_eq!(within(ann.next_text()).await["request_id"], "a");
    let mut bob = stage.page(ROOM, "?caller=bob").await;
    for id in 0..20 {
        bob.text(&stroke(&id.to_string())).await;
        bob.say(Message::text("read so far?")).await;
        while within(bob.next_text()).await["error"] != "VALIDATION_ERROR" {}
    }
    assert!(*left.0.lock().unwrap() >= 3, "ann's picture, and bob's newest at most");
}

#[tokio::test]
async fn what_fails_on_the_device_costs_no_picture() {
    let left = purse(1);
    let stage = Stage::charging(Arc::new(left.clone())).await;
    let mut page = stage.page(ROOM, "").await;
    stage.control.inject(FakePart::Step, 0, FakeFault::Fail);
    page.text(&stroke("lost")).await;
    assert_eq!(within(page.next_text()).await["type"], "x-fal-error");
    assert_eq!(*left.0.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_cut_off_with_1008() {
    let stage = Stage::with(RealtimeSettings::default()).await;
    let mut page = stage.page(ROOM, "").await;
    let mut frame = Vec::new();
    write_frame(&mut frame, Opcode::Binary, &[0; 60_000], Some([1, 2, 3, 4]));
    page.socket.get_mut().write_all(&frame[..100]).await.unwrap();
    let began = Instant::now();
    // No ping is answered in the middle of a frame.
    let mut said = Vec::new();
    page.socket.get_mut().read_to_end(&mut said).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("TOO_SLOW"));
    assert_eq!(began.elapsed().as_secs(), 32, "thirty for the message, two for a goodbye");
}
