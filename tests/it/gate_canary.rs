//! Keys, prompts, tokens and pictures show nowhere: not in logs at their most talkative, metrics, answers or debug text.

use std::io;
use std::sync::{Arc, Mutex};

use falgate::config::{Config, Environment};
use falgate::engine::{FakeFault, FakePart};
use falgate::telemetry::LogWriter;
use http::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

use crate::gate_support::{APP, ENGINE, Gate, PROXY, RUN, asked, fal_at, proxied};
use crate::host_desk::{data_uri, input_with, png};
use crate::realtime_support::{Page, SOCKET, Wishes};
use crate::support::fake_fal::{FakeFal, Reply};

const FAL_KEY: &str = "canary1-fal:canary1-secret";
const ACCESS: &str = "canary2-access:canary2-secret";
const PROMPT: &str = "a canary3 in a mine";
const TOKEN: &str = "canary4-token";
const PICTURE: &[u8] = b"canary5-picture";

/// Everything that was logged, by all threads of this test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// A PNG with the canary in its bytes, after its end where decoders do not look.
fn picture() -> String {
    data_uri("image/png", &[&png(64, 64), PICTURE].concat())
}

/// Calls of every kind, good and bad, each full of canaries; gives all answers as text.
async fn calls(gate: &Gate, good: &str) -> String {
    let input = input_with(json!({ "prompt": PROMPT, "image_url": picture() })).to_string();
    let stored = input_with(json!({ "prompt": PROMPT, "image_url": picture(), "sync_mode": false })).to_string();
    let broken = data_uri("image/png", &[&png(64, 64)[..60], PICTURE].concat());
    let broken = input_with(json!({ "prompt": PROMPT, "image_url": broken })).to_string();
    let lacking = json!({ "prompt": PROMPT }).to_string();
    let access = format!("Key {ACCESS}");
    let json = ("content-type", "application/json");
    let queried = format!("{APP}?fal_jwt_token={TOKEN}");
    let target = format!("https://fal.run/fal-ai/flux?fal_jwt_token={TOKEN}");
    let (json_in, own) = (json!({ "prompt": PROMPT }).to_string(), format!("Key {FAL_KEY}"));
    let mut said = String::new();
    for request in [
        proxied(RUN, input.clone()),
        proxied(RUN, stored),
        proxied(RUN, broken),
        proxied(RUN, lacking),
        proxied(RUN, format!("{{\"prompt\":\"{PROMPT}")),
        proxied(&target, json_in.clone()),
        proxied(&format!("https://fal.run/fal-ai/flux/down?fal_jwt_token={TOKEN}"), json_in.clone()),
        proxied(&format!("https://evil.test/?fal_jwt_token={TOKEN}"), json_in.clone()),
        proxied(&format!("https://fal.run/fal-ai/no?fal_jwt_token={TOKEN}"), json_in),
        asked(Method::POST, &queried, &[json], input.clone()),
        asked(Method::POST, &queried, &[json, ("authorization", &access)], input.clone()),
        asked(Method::POST, APP, &[json, ("authorization", "Key canary2-access:wrong-canary2")], input.clone()),
        asked(Method::POST, PROXY, &[json, ("authorization", &own), ("x-fal-target-url", RUN)], "{}"),
        asked(Method::GET, &format!("/nothing?fal_jwt_token={TOKEN}"), &[("authorization", &access)], ""),
        asked(Method::GET, &format!("/files/0?upload_token={TOKEN}"), &[], ""),
        asked(Method::PUT, &format!("/files/{}.png?upload_token={TOKEN}", "0".repeat(32)), &[], PICTURE),
    ] {
        said += &format!("{:?}\n", gate.send(request).await);
    }
    for fault in [FakeFault::Fail, FakeFault::OutOfMemory, FakeFault::Panic] {
        gate.control().inject(FakePart::Step, 0, fault);
        said += &format!("{:?}\n", gate.proxied(RUN, input.clone()).await);
    }
    said += &sockets(gate, good).await;
    said += &gate.probe(format!("GET /{TOKEN}\u{1} HTTP/1.1\r\nhost: a\r\nauthorization: {own}\r\n\r\n")).await;
    said
}

/// Sockets, let in and not, that say what nobody else may hear; gives all that was said to them.
async fn sockets(gate: &Gate, good: &str) -> String {
    let mut said = String::new();
    for path in [format!("{SOCKET}?fal_jwt_token={TOKEN}"), format!("{APP}/nothing?fal_jwt_token={good}")] {
        said += &match Page::wishing(gate.address, &path, &Wishes::default()).await {
            Ok(mut page) => format!("{:?}", page.last_words().await),
            Err(status) => status.to_string(),
        };
    }
    let mut page = Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={good}")).await;
    for image in [picture(), data_uri("image/png", PICTURE), "data:,canary5-picture".to_owned()] {
        page.text(&json!({ "prompt": PROMPT, "image_url": image, "seed": "canary3" })).await;
        said += &page.next_text().await.to_string();
        page.text(&json!({ "prompt": PROMPT, "image_url": image })).await;
        page.next_text().await;
    }
    page.say(Message::text(format!("{{\"prompt\":\"{PROMPT}"))).await;
    said += &page.next_text().await.to_string();
    page.socket.close(None).await.unwrap();
    crate::realtime_support::until_metric(gate, "falgate_sockets_open{route=\"engine\"}", 0.0).await;
    said
}

async fn everything(log: Log, good: &str) -> String {
    let fal = FakeFal::http(|seen| match seen.path_and_query.contains("down") {
        true => Reply::json(500, "{\"detail\":\"broken\"}"),
        false => Reply::json(200, "{\"from\":\"fal\"}"),
    })
    .await;
    let keys = "[guard.keys]\nenv = \"ACCESS\"\n[telemetry]\nlevel = \"trace\"\n";
    let text = format!("{}{ENGINE}{keys}", fal_at(&fal.url()));
    let variables = [("FAL_KEY", FAL_KEY), ("ACCESS", ACCESS)];
    let (writer, guard) = LogWriter::start(log).unwrap();
    let gate = Gate::start_in(&text, &variables, Some(writer)).await;
    let environment = Environment::from(variables);
    let mut said = format!("{:?}{environment:?}", Config::load(&text, &environment).unwrap());
    said += &calls(&gate, good).await;
    let mut admin = crate::gate_support::Line::to(gate.admin).await;
    let metrics = admin.send(asked(Method::GET, "/metrics", &[], "")).await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("falgate_requests"), "{metrics:?}");
    said += &String::from_utf8_lossy(&metrics.body);
    let seen = fal.seen();
    assert_eq!(seen.len(), 2);
    for seen in &seen {
        assert_eq!(seen.header("authorization"), Some(format!("Key {FAL_KEY}").as_str()));
        assert!(!format!("{seen:?}").contains("canary2"), "the access key stays here");
    }
    gate.ask_to_stop();
    said += &format!("{:?}", gate.ended().await);
    drop(guard);
    said
}

#[test]
fn no_key_prompt_token_or_picture_shows_anywhere() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    // With a single one, tracing asks the thread that meets a log line first, which may belong to another test, and
    // remembers that nobody listens.
    let _second = Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let dispatch = Dispatch::new(subscriber);
    let on_thread = dispatch.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        // Every thread of the runtime logs here, as long as it lives.
        .on_thread_start(move || std::mem::forget(tracing::dispatcher::set_default(&on_thread)))
        .build()
        .unwrap();
    let sink = log.clone();
    let good = crate::realtime_support::token();
    let said = tracing::dispatcher::with_default(&dispatch, || runtime.block_on(everything(sink, &good)));
    drop(runtime);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("draining") && log.contains("TRACE"), "the log was listened to");
    assert!(log.contains("lcm-sd15-i2i"), "the request log is in it");
    assert!(log.contains("a socket ended"), "sockets have their line");
    let signature = good.rsplit('.').next().unwrap();
    // What base64 makes of the picture's canary depends on where in a group of three bytes it begins.
    let hidden: Vec<String> = (0..3)
        .map(|before| base64_simd::STANDARD.encode_to_string([&b"..."[..before], PICTURE].concat())[4..16].to_owned())
        .collect();
    assert!(hidden.iter().any(|part| picture().contains(part)));
    for text in [&log, &said] {
        let secrets = || hidden.iter().map(String::as_str).chain(["canary", signature]);
        let shown = text.lines().find(|line| secrets().any(|part| line.contains(part)));
        assert_eq!(shown, None);
    }
}
