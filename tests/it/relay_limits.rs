//! The guard's limits on relayed sockets: charged by the header, refused on the socket, skipped to the end.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use falgate::upstream::{EachInput, InputAccount, InputBudget, InputRules, KeyRing, SocketSettings};
use falgate::wire::frame::{Opcode, write_frame};
use falgate::wire::{Body, EndpointId, FieldError};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Request;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::gate_support::{Gate, fal_at};
use crate::realtime_support::{Page, metric};
use crate::support::fake_sockets::{FakeSockets, FalSocket};
use crate::support::proxy_stack::CANARY;
use crate::support::relay_gate::{Client, RelayGate, next, settings};

/// What was asked of an account, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Book(Arc<Mutex<Vec<String>>>);

/// Lets inputs pass that begin with less than a thousand bytes, and less than a hundred of those that are sent again.
impl InputBudget for Book {
    fn account(&self, _: &Request<Body>, each: EachInput) -> Option<Box<dyn InputAccount>> {
        self.note(format!("{each:?}"));
        Some(Box::new(self.clone()))
    }
}

impl InputAccount for Book {
    fn begin(&mut self, bytes: u64) -> Result<(), Duration> {
        self.note(format!("begin {bytes}"));
        if bytes < 1000 { Ok(()) } else { Err(Duration::from_millis(1250)) }
    }

    fn go_on(&mut self, bytes: u64) {
        self.note(format!("go on {bytes}"));
    }

    fn begin_again(&mut self, bytes: u64) -> Result<(), Duration> {
        self.note(format!("again {bytes}"));
        if bytes < 100 { Ok(()) } else { Err(Duration::from_millis(1250)) }
    }

    fn unsent(&mut self) {
        self.note("unsent".to_owned());
    }

    fn results(&mut self, count: u64) {
        self.note(format!("results {count}"));
    }

    fn failures(&mut self, count: u64) {
        self.note(format!("failures {count}"));
    }
}

impl Book {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Refuses whatever is no JSON.
#[derive(Debug)]
struct JsonOnly;

impl InputRules for JsonOnly {
    fn concern(&self, _: &EndpointId) -> bool {
        true
    }

    fn apply(&self, _: &EndpointId, _: Option<&str>, input: &[u8]) -> Result<Vec<u8>, Vec<FieldError>> {
        let read = serde_json::from_slice::<Value>(input);
        read.map(|_| input.to_vec()).map_err(|_| vec![FieldError::at("prompt", "missing", "Field required")])
    }
}

async fn counted(rules: Option<Arc<dyn InputRules>>) -> (Book, RelayGate, Client, FalSocket) {
    let fal = FakeSockets::open().await;
    let unhurried = SocketSettings {
        frames_per_s: NonZeroU32::MAX,
        frames_burst: NonZeroU32::MAX,
        bytes_burst: NonZeroU64::new(1 << 40).unwrap(),
        ..SocketSettings::default()
    };
    let settings = settings(&fal, unhurried);
    let (book, keys) = (Book::default(), KeyRing::single(CANARY.to_owned()).unwrap());
    let budget = Arc::new(book.clone());
    let gate = RelayGate::with(settings, keys, |layer| {
        let layer = layer.with_budget(budget);
        if let Some(rules) = rules { layer.with_rules(rules) } else { layer }
    })
    .await;
    let (client, socket) = gate.pair(&fal).await;
    (book, gate, client, socket)
}

fn part(opcode: Data, bytes: usize, last: bool) -> Message {
    Message::Frame(Frame::message(vec![b'x'; bytes], OpCode::Data(opcode), last))
}

pub(crate) const WAIT: &str = "more inputs than you may have, try again in 1.3 s";

#[tokio::test]
async fn a_large_input_over_its_share_is_refused_by_its_header_and_never_goes_on() {
    let (book, gate, mut client, mut fal) = counted(None).await;
    client.send(Message::text("first")).await;
    assert_eq!(next(&mut fal).await, Message::text("first"));
    client.send(Message::binary(vec![7; 900_000])).await;
    let said = client.json().await;
    assert_eq!(said, json!({"type": "x-fal-error", "error": "RATE_LIMITED", "reason": WAIT}));
    client.send(Message::Ping(b"alive?".to_vec().into())).await;
    client.send(Message::text("second")).await;
    assert_eq!(next(&mut fal).await, Message::text("second"), "not a byte of the refused one went on");
    assert_eq!(book.take(), ["Picture", "begin 5", "begin 900000", "begin 6"]);
    assert_eq!(gate.metric("falgate_relay_refused_inputs_total"), 1.0);
    assert_eq!(gate.metric("falgate_relay_open"), 1.0);
}

#[tokio::test]
async fn a_refused_input_in_parts_is_skipped_to_its_end_and_pings_between_pass() {
    let (book, _gate, mut client, mut fal) = counted(None).await;
    client.send(part(Data::Binary, 1000, false)).await;
    client.send(part(Data::Continue, 70_000, false)).await;
    client.send(Message::Ping(b"alive?".to_vec().into())).await;
    client.send(part(Data::Continue, 5, true)).await;
    client.send(Message::text("after it")).await;
    assert_eq!(fal.next().await.unwrap().unwrap(), Message::Ping(b"alive?".to_vec().into()));
    assert_eq!(next(&mut fal).await, Message::text("after it"));
    assert_eq!(book.take(), ["Picture", "begin 1000", "begin 8"], "parts of it are charged to nobody");
    assert_eq!(client.json().await["error"], "RATE_LIMITED");
}

#[tokio::test]
async fn parts_of_an_input_that_went_on_are_charged_as_they_come() {
    let (book, _gate, mut client, mut fal) = counted(None).await;
    client.send(part(Data::Binary, 10, false)).await;
    client.send(part(Data::Continue, 70_000, false)).await;
    client.send(part(Data::Continue, 5, true)).await;
    assert_eq!(next(&mut fal).await.len(), 70_015);
    assert_eq!(book.take(), ["Picture", "begin 10", "go on 70000", "go on 5"]);
}

#[tokio::test]
async fn an_input_over_its_share_is_never_read_by_a_policy_and_one_that_a_policy_refuses_is_told() {
    let (book, _gate, mut client, mut fal) = counted(Some(Arc::new(JsonOnly))).await;
    client.send(part(Data::Text, 1000, false)).await;
    client.send(part(Data::Continue, 10, true)).await;
    assert_eq!(client.json().await["error"], "RATE_LIMITED");
    client.text("no json").await;
    assert_eq!(client.json().await["error"], "VALIDATION_ERROR");
    client.text("{}").await;
    assert_eq!(next(&mut fal).await, Message::text("{}"));
    assert_eq!(book.take(), ["Picture", "begin 1000", "begin 7", "unsent", "begin 2"]);
}

#[tokio::test]
async fn results_and_errors_of_fals_reach_the_account() {
    let (book, _gate, mut client, mut fal) = counted(None).await;
    client.text("{}").await;
    next(&mut fal).await;
    let answers = [
        Message::binary(vec![1; 100]),
        Message::text(r#"{"type":"x-fal-error","error":"X","reason":"y"}"#),
        Message::text(r#"{"type":"x-fal-message","action":"timings"}"#),
    ];
    for answer in answers {
        fal.send(answer).await.unwrap();
        client.next().await;
    }
    let said = book.take();
    let of = |word: &str| said.iter().filter(|line| *line == word).count();
    assert_eq!((of("results 1"), of("failures 1")), (1, 1), "{said:?}");
}

#[tokio::test]
async fn a_flood_of_refused_inputs_is_counted_and_not_all_of_it_is_answered() {
    let (_book, gate, mut client, mut fal) = counted(None).await;
    let mut flood = Vec::new();
    for _ in 0..2_000 {
        write_frame(&mut flood, Opcode::Binary, &[0; 1000], Some([1, 2, 3, 4]));
    }
    client.socket.get_mut().write_all(&flood).await.unwrap();
    client.text("after it").await;
    assert_eq!(next(&mut fal).await, Message::text("after it"));
    assert_eq!(gate.metric("falgate_relay_refused_inputs_total"), 2_000.0);
    assert_eq!(client.json().await["error"], "RATE_LIMITED");
}

#[tokio::test]
async fn a_whole_gate_charges_the_inputs_of_its_relayed_sockets() {
    let fal = FakeSockets::open().await;
    let rule = "[[limits.rule]]\nname = \"frames\"\nof = \"frames\"\nby = \"address\"\namount = 2\nper_ms = 3600000\n";
    let settings = fal_at(&fal.url()).replace("\"fal-ai/flux\"", "\"fal-ai/lcm-sd15-i2i\"");
    let gate = Gate::start(&format!("{settings}{rule}")).await;
    let (mut page, mut socket) = tokio::join!(Page::open(&gate), fal.socket());
    for _ in 0..2 {
        page.text(&json!({"prompt": "a"})).await;
        next(&mut socket).await;
    }
    page.text(&json!({"prompt": "a"})).await;
    let said = page.next_text().await;
    assert_eq!((&said["type"], &said["error"]), (&json!("x-fal-error"), &json!("RATE_LIMITED")), "{said}");
    assert_eq!(metric(&gate, "falgate_relay_open").await, 1.0);
}
