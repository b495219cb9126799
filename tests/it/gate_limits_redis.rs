//! Whole gates on one real Redis: bodies of untold length are charged by their bytes, sockets by their frames.

use futures_util::SinkExt as _;
use http::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::gate_support::{ENGINE, FAL_KEY, Gate, Line, asked, fal_at};
use crate::realtime_support::{Page, stroke};
use crate::redis_support::{Redis, soon};
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::fake_sockets::FakeSockets;
use crate::support::relay_gate::next;

/// Two gates with this configuration and a rule for each address: so much in an hour.
async fn gates(redis: &Redis, text: &str, (of, amount): (&str, u32)) -> [Gate; 2] {
    let text = format!(
        "{text}[limits]\nstore = \"redis\"\n[limits.redis]\nurl_env = \"STORE_URL\"\nhash_key_env = \"STORE_KEY\"\n\
         timeout_ms = 5000\n[[limits.rule]]\nname = \"rule\"\nof = \"{of}\"\nby = \"address\"\namount = {amount}\n\
         per_ms = 360000000\n"
    );
    let url = redis.url();
    let key = "an example of 32 bytes, or more of them";
    let variables = [("FAL_KEY", FAL_KEY), ("STORE_URL", url.as_str()), ("STORE_KEY", key)];
    [Gate::start_in(&text, &variables, None).await, Gate::start_in(&text, &variables, None).await]
}

/// Waits until so much is left in the store, as this gate's admin listener shows it: debts arrive behind the call.
async fn until_left(gate: &Gate, left: u64) {
    let host = gate.admin.to_string();
    let ask = || asked(Method::GET, "/limits/address:127.0.0.1", &[("host", &*host)], "");
    let mut line = Line::to(gate.admin).await;
    soon(async { while line.send(ask()).await.json()["limits"][0]["left"] != json!(left) {} }).await;
}

fn is_refused(said: &Value) {
    assert_eq!((&said["type"], &said["error"]), (&json!("x-fal-error"), &json!("RATE_LIMITED")), "{said}");
}

#[tokio::test]
async fn a_chunked_body_is_charged_by_its_bytes_at_all_gates() {
    let Some(redis) = Redis::start(&[]) else { return };
    let fal = FakeFal::http(|_| Reply::json(200, "{\"from\":\"fal\"}")).await;
    let gates = gates(&redis, &fal_at(&fal.url()), ("bytes", 100)).await;
    let head = "POST /api/fal/proxy HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\ncontent-type: application/json\r\n\
                x-fal-target-url: https://fal.run/fal-ai/flux\r\n";
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let whole = gates[0].probe(format!("{chunked}14\r\n{{\"prompt\":\"twenty.\"}}\r\n0\r\n\r\n")).await;
    assert!(whole.starts_with("HTTP/1.1 200"), "{whole}");
    until_left(&gates[1], 80).await;
    let body = format!("{{\"prompt\":\"{}\"}}", "x".repeat(77));
    let told = gates[1].probe(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    assert!(told.starts_with("HTTP/1.1 429"), "90 of 80 bytes: {told}");
    until_left(&gates[0], 80).await;
    let piece = "x".repeat(64);
    let cut = gates[0].probe(format!("{chunked}40\r\n{piece}\r\n40\r\n{piece}\r\n0\r\n\r\n")).await;
    assert!(cut.starts_with("HTTP/1.1 4") && cut.contains("bytes"), "{cut}");
}

#[tokio::test]
async fn inputs_on_a_relayed_socket_are_charged_by_the_frame_and_owed_to_the_store() {
    let Some(redis) = Redis::start(&[]) else { return };
    let fal = FakeSockets::open().await;
    let settings = fal_at(&fal.url()).replace("\"fal-ai/flux\"", "\"fal-ai/lcm-sd15-i2i\"");
    let gates = gates(&redis, &settings, ("frames", 3)).await;
    let (mut page, mut socket) = tokio::join!(Page::open(&gates[0]), fal.socket());
    for left in [2, 1, 0] {
        page.text(&json!({"prompt": "a"})).await;
        assert_eq!(next(&mut socket).await, Message::text("{\"prompt\":\"a\"}"));
        until_left(&gates[1], left).await;
    }
    page.text(&json!({"prompt": "b"})).await;
    is_refused(&page.next_text().await);
    socket.send(Message::text("{}")).await.unwrap();
    assert_eq!(page.next_text().await, json!({}), "the socket stays");
}

#[tokio::test]
async fn inputs_on_engine_sockets_of_two_gates_share_one_limit_of_frames() {
    let Some(redis) = Redis::start(&[]) else { return };
    let gates = gates(&redis, ENGINE, ("frames", 3)).await;
    let mut pages = [Page::open(&gates[0]).await, Page::open(&gates[1]).await];
    for (page, id) in [(0, "a"), (1, "b"), (0, "c")] {
        pages[page].text(&stroke(id)).await;
        assert_eq!(pages[page].next_text().await["request_id"], id);
    }
    for page in &mut pages {
        page.text(&stroke("late")).await;
        is_refused(&page.next_text().await);
    }
    until_left(&gates[0], 0).await;
}
