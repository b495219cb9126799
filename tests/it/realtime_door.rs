//! Who may open a socket, and how those hear of it who may not.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::engine_support::within;
use crate::gate_support::{ENGINE, FAL_KEY, Gate, fal_at};
use crate::realtime_support::{
    Page, SOCKET, UNAUTHORIZED, Wishes, metric, stroke, token, token_from, until_metric, with_token,
};
use crate::support::fake_fal::{FakeFal, Reply};

const ACCESS: &str = "access-id:access-secret";
const LEGACY: Wishes<'_> = Wishes { host: Some("110602490-lcm-sd15-i2i.gateway.gate.test"), headers: &[] };

/// Opens a socket that is let in by its handshake and turned away on it.
async fn is_turned_away(gate: &Gate, path: &str, wishes: &Wishes<'_>) {
    let mut page = Page::wishing(gate.address, path, wishes).await.unwrap();
    // What a page sent before it knew must not spoil the end.
    drop(futures_util::SinkExt::send(&mut page.socket, Message::text(stroke("lost").to_string())).await);
    assert_eq!(page.last_words().await, (vec![UNAUTHORIZED.to_owned()], 1000), "{path}");
    assert!(page.next().await.is_none());
}

async fn is_let_in(gate: &Gate, path: &str, wishes: &Wishes<'_>) -> Page {
    let mut page = Page::wishing(gate.address, path, wishes).await.unwrap();
    page.text(&stroke("in")).await;
    assert_eq!(page.next_text().await["request_id"], "in", "{path}");
    page
}

fn showing(token: &str) -> String {
    format!("{SOCKET}?fal_jwt_token={token}")
}

#[tokio::test]
async fn case_70_and_71_a_token_that_opens_nothing_is_told_on_the_socket() {
    let gate = Gate::start(ENGINE).await;
    let good = token();
    let forged = format!("{}x", &good[..good.len() - 2]);
    let none = good.rsplit_once('.').unwrap().0;
    for token in [
        "",
        "garbage",
        "e30.e30.e30",
        forged.as_str(),
        none,
        &token_from(&["lcm-sd15-i2i"], Duration::from_secs(1000)),
        &token_from(&["lcm"], Duration::ZERO),
        &"x".repeat(4000),
        &format!("{good}&fal_jwt_token={good}"),
    ] {
        is_turned_away(&gate, &showing(token), &Wishes::default()).await;
    }
    is_turned_away(&gate, SOCKET, &Wishes::default()).await;
    is_let_in(&gate, &showing(&good), &Wishes::default()).await;
    let encoded = good.replace('.', "%2E");
    is_let_in(&gate, &format!("{SOCKET}?unknown=1&fal_jwt_token={encoded}&x"), &Wishes::default()).await;
    assert_eq!(metric(&gate, "falgate_sockets_refused_total{why=\"unauthorized\"}").await, 10.0);
    assert!(gate.control().calls_of(falgate::engine::FakePart::Decode).len() == 2);
}

#[tokio::test]
async fn case_88b_the_words_and_the_close_arrive_together_and_unasked() {
    let gate = Gate::start(ENGINE).await;
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: gate.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        showing("bad")
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(socket.read_to_end(&mut answer)).await.unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (head, words) = answer.split_at(end);
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
    let mut wanted = vec![0x81, UNAUTHORIZED.len() as u8];
    wanted.extend_from_slice(UNAUTHORIZED.as_bytes());
    wanted.extend_from_slice(&[0x88, 0x02, 0x03, 0xE8]);
    assert_eq!(words, wanted);
}

#[tokio::test]
async fn case_74_a_socket_outlives_its_token() {
    let gate = Gate::start(ENGINE).await;
    // It expires within a second, the forgiven five included.
    let dying = token_from(&["lcm-sd15-i2i"], Duration::from_millis(124_000));
    let mut page = is_let_in(&gate, &showing(&dying), &Wishes::default()).await;
    within(async {
        loop {
            let mut other = Page::at(gate.address, &showing(&dying)).await;
            other.say(Message::text("[]")).await;
            if other.next_text().await == serde_json::from_str::<serde_json::Value>(UNAUTHORIZED).unwrap() {
                break;
            }
        }
    })
    .await;
    page.text(&stroke("still")).await;
    assert_eq!(page.next_text().await["request_id"], "still");
}

#[tokio::test]
async fn case_69_pages_without_a_token_are_let_in_by_switch_only_where_the_first_gateway_was() {
    let closed = Gate::start(ENGINE).await;
    is_turned_away(&closed, "/ws", &LEGACY).await;
    let open = Gate::start(&format!("{ENGINE}[guard.tokens]\nanonymous_sockets = true\n")).await;
    is_let_in(&open, "/ws", &LEGACY).await;
    is_let_in(&open, "/110602490-lcm-sd15-i2i/ws", &Wishes::default()).await;
    is_turned_away(&open, SOCKET, &Wishes::default()).await;
    is_turned_away(&open, "/ws?fal_jwt_token=bad", &LEGACY).await;
}

#[tokio::test]
async fn nobody_reaches_fal_without_a_token_or_key() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let text = format!("{}{ENGINE}[guard.tokens]\nanonymous_sockets = true\n", fal_at(&fal.url()));
    let gate = Gate::start(&text).await;
    let refused = Page::wishing(gate.address, "/fal-ai/flux/ws", &Wishes::default()).await.err();
    assert_eq!(refused, Some(403));
    is_turned_away(&gate, "/fal-ai/flux/realtime", &Wishes::default()).await;
    is_turned_away(&gate, &format!("/fal-ai/flux/realtime?fal_jwt_token={}", token()), &Wishes::default()).await;
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_83_servers_show_an_access_key_as_at_the_direct_door() {
    let text = format!("{ENGINE}[guard.keys]\nenv = \"ACCESS\"\n");
    let gate = Gate::start_in(&text, &[("FAL_KEY", FAL_KEY), ("ACCESS", ACCESS)], None).await;
    let key = format!("Key {ACCESS}");
    let bearer = format!("Bearer {}", token());
    for value in [key.as_str(), bearer.as_str(), "Bearer access-id:access-secret"] {
        is_let_in(&gate, SOCKET, &Wishes { headers: &[("authorization", value)], ..Wishes::default() }).await;
    }
    for value in ["Key access-id:wrong-secret", "Key nocolon", "Basic eDp5", "Bearer bad", ""] {
        let wishes = Wishes { headers: &[("authorization", value)], ..Wishes::default() };
        is_turned_away(&gate, SOCKET, &wishes).await;
    }
    is_turned_away(&gate, SOCKET, &Wishes::default()).await;
    let open = Gate::start(ENGINE).await;
    is_let_in(&open, SOCKET, &Wishes { headers: &[("authorization", &key)], ..Wishes::default() }).await;
}

#[tokio::test]
async fn case_86_a_foreign_page_is_refused_before_the_handshake() {
    let gate = Gate::start(&format!("{ENGINE}[guard.origins]\nallow = [\"https://draw.example\"]\n")).await;
    for (origin, status) in [
        ("https://evil.example", Some(403)),
        ("https://draw.example.evil", Some(403)),
        ("https://evildraw.example", Some(403)),
        ("null", Some(403)),
        ("https://draw.example", None),
        ("http://gate.test", None),
    ] {
        let wishes = Wishes { headers: &[("origin", origin)], ..Wishes::default() };
        let answer = Page::wishing(gate.address, &showing(&token()), &wishes).await;
        assert_eq!(answer.err(), status, "{origin}");
        let answer = Page::wishing(gate.address, &showing("bad"), &wishes).await;
        assert_eq!(answer.err(), status, "{origin} with a bad token");
    }
    let twice = [("origin", "https://draw.example"), ("origin", "https://evil.example")];
    let wishes = Wishes { headers: &twice, ..Wishes::default() };
    assert_eq!(Page::wishing(gate.address, &showing(&token()), &wishes).await.err(), Some(403));
}

#[tokio::test]
async fn case_87_too_many_sockets_are_refused_at_http_level_and_each_end_frees_a_place() {
    let limits = "[gate.sockets]\nopen = 3\nper_address = 2\n";
    let proxies = "[guard.address]\ntrusted_proxies = [\"127.0.0.1/32\"]\nheader = \"x-forwarded-for\"\n";
    let gate = Gate::start(&format!("{ENGINE}{limits}{proxies}")).await;
    let open = async |address: &str| {
        let headers = [("x-forwarded-for", address)];
        Page::wishing(gate.address, &showing(&token()), &Wishes { headers: &headers, ..Wishes::default() }).await
    };
    let (first, second) = (open("192.0.2.1").await.unwrap(), open("192.0.2.1").await.unwrap());
    assert_eq!(open("192.0.2.1").await.err(), Some(429));
    let third = open("192.0.2.2").await.unwrap();
    assert_eq!(open("192.0.2.3").await.err(), Some(503));
    drop(first);
    until_metric(&gate, "falgate_sockets_open{route=\"engine\"}", 2.0).await;
    let again = open("192.0.2.1").await.unwrap();
    drop((second, third, again));
    until_metric(&gate, "falgate_sockets_open{route=\"engine\"}", 0.0).await;
    // Reload loops: sockets that are dropped at once leave their places again.
    for _ in 0..50 {
        within(async { while open("192.0.2.9").await.is_err() {} }).await;
    }
    assert!(metric(&gate, "falgate_sockets_refused_total{why=\"too_many\"}").await >= 2.0);
}

#[tokio::test]
async fn a_token_has_so_many_sockets_and_no_more() {
    let gate = Gate::start(&format!("{ENGINE}[guard.tokens]\nsockets_per_token = 2\n")).await;
    let shared = showing(&token());
    let (first, _second) = (Page::at(gate.address, &shared).await, Page::at(gate.address, &shared).await);
    // The client gets itself another token, which has places of its own.
    is_turned_away(&gate, &shared, &Wishes::default()).await;
    is_let_in(&gate, &showing(&token()), &Wishes::default()).await;
    drop(first);
    until_metric(&gate, "falgate_sockets_open{route=\"engine\"}", 1.0).await;
    is_let_in(&gate, &shared, &Wishes::default()).await;
}

#[tokio::test]
async fn what_is_no_socket_is_answered_as_a_request() {
    let gate = Gate::start(ENGINE).await;
    for (path, status) in
        [("/fal-ai/lcm-sd15-i2i", 404), ("/realtime", 404), ("/", 404), ("/fal-ai/lcm%2fx/realtime", 404)]
    {
        let refused = Page::wishing(gate.address, &with_token(path), &Wishes::default()).await.err();
        assert_eq!(refused, Some(status), "{path}");
    }
    let probe = async |headers: &str| {
        let head = format!(
            "GET {} HTTP/1.1\r\nhost: gate.test\r\nconnection: close, upgrade\r\n{headers}\r\n",
            showing(&token())
        );
        gate.probe(head).await
    };
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let old = probe(&format!("upgrade: websocket\r\n{key}sec-websocket-version: 8\r\n")).await;
    assert!(old.starts_with("HTTP/1.1 426 ") && old.contains("sec-websocket-version: 13"), "{old}");
    let keyless = probe("upgrade: websocket\r\nsec-websocket-version: 13\r\n").await;
    assert!(keyless.starts_with("HTTP/1.1 400 "), "{keyless}");
    let body = probe(&format!("upgrade: websocket\r\n{key}sec-websocket-version: 13\r\ncontent-length: 4\r\n")).await;
    assert!(body.starts_with("HTTP/1.1 400 "), "{body}");
}

#[tokio::test]
async fn a_token_for_an_app_that_is_not_here_is_told_on_the_socket() {
    let gate = Gate::start(ENGINE).await;
    for path in ["/fal-ai/other/realtime", "/fal-ai/lcm-sd15-i2i/draw"] {
        let mut page = Page::at(gate.address, &with_token(path)).await;
        let (words, code) = page.last_words().await;
        assert_eq!((words.len(), code), (1, 1000), "{path}");
        assert!(words[0].contains("Unauthorized"), "{words:?}");
        let bare = Page::wishing(gate.address, path, &Wishes::default()).await.err();
        assert_eq!(bare, Some(403), "{path} without a token");
    }
}

#[tokio::test]
async fn custom_paths_are_sockets_where_a_route_and_the_host_name_them() {
    let rows = "[[route]]\nendpoint = \"fal-ai/lcm-sd15-i2i/**\"\nto = \"engine\"\n\
                [host]\npaths = [\"fal-ai/lcm-sd15-i2i/live/draw\"]\n";
    let gate = Gate::start(&format!("{ENGINE}{rows}")).await;
    is_let_in(&gate, &with_token("/fal-ai/lcm-sd15-i2i/live/draw"), &Wishes::default()).await;
    is_let_in(&gate, &with_token("/fal-ai/lcm-sd15-i2i/live/draw/realtime"), &Wishes::default()).await;
    let refused = Page::wishing(gate.address, &with_token("/fal-ai/lcm-sd15-i2i/other"), &Wishes::default()).await;
    assert_eq!(refused.err(), Some(404));
}

#[tokio::test]
async fn case_84_offers_of_compression_and_subprotocols_are_declined_cleanly() {
    let gate = Gate::start(ENGINE).await;
    let headers = [("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")];
    let wishes = Wishes { headers: &headers, ..Wishes::default() };
    let page = is_let_in(&gate, &showing(&token()), &wishes).await;
    for header in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        assert!(!page.headers.contains_key(header), "{:?}", page.headers);
    }
}

#[tokio::test]
async fn bare_pictures_go_both_ways_where_a_page_agrees_on_it() {
    let gate = Gate::start(ENGINE).await;
    let mut page = Page::at(gate.address, &format!("{}&falgate=direct", showing(&token()))).await;
    assert_eq!(page.next_text().await, json!({"type": "x-fal-message", "action": "falgate.direct", "version": 1}));
    page.text(&json!({"prompt": "a cat", "seed": 7, "num_inference_steps": 2})).await;
    assert_eq!(page.next_text().await["action"], "settings");
    for sequence in 1..=3_u32 {
        page.say(Message::binary(crate::realtime_support::jpeg(128))).await;
        let Some(Message::Binary(frame)) = page.next().await else { panic!("a bare picture comes") };
        assert_eq!(frame[..2], [1, 1]);
        assert_eq!(u32::from_be_bytes(frame[4..8].try_into().unwrap()), sequence);
        assert_eq!(u64::from_be_bytes(frame[12..20].try_into().unwrap()), 7);
        let begins = usize::from(u16::from_be_bytes(frame[2..4].try_into().unwrap()));
        let picture = image::load_from_memory(&frame[begins..]).unwrap();
        assert_eq!((picture.width(), picture.height()), (128, 128));
    }
    page.say(Message::binary(&b"\xFF\xD8\xFF\xE0 broken"[..])).await;
    let error = page.next_text().await;
    assert_eq!((&error["error"], &error["sequence"]), (&json!("VALIDATION_ERROR"), &json!(4)), "{error}");
    page.text(&stroke("whole")).await;
    assert_eq!(page.next_text().await["request_id"], "whole", "other inputs are answered as ever");
}

#[tokio::test]
async fn a_picture_like_the_last_is_not_rendered_again_where_page_or_operator_want_that() {
    for (query, settings) in [("&falgate_similar=0.05", ""), ("", "[host.realtime]\nsimilar = 0.05\n")] {
        let gate = Gate::start(&format!("{ENGINE}{settings}")).await;
        let mut page = Page::at(gate.address, &format!("{}{query}", showing(&token()))).await;
        page.text(&stroke("1")).await;
        assert_eq!(page.next_text().await["request_id"], "1");
        page.text(&stroke("2")).await;
        assert_eq!(page.next_text().await, json!({"type": "x-fal-message", "action": "similar", "request_id": "2"}));
        let mut other = stroke("3");
        other["prompt"] = json!("a dog");
        page.text(&other).await;
        assert_eq!(page.next_text().await["request_id"], "3", "another prompt is another picture");
        assert_eq!(metric(&gate, "falgate_socket_dropped_total{what=\"similar\"}").await, 1.0);
    }
    let gate = Gate::start(ENGINE).await;
    let mut page = Page::open(&gate).await;
    for id in ["1", "2"] {
        page.text(&stroke(id)).await;
        assert_eq!(page.next_text().await["request_id"], id, "without a wish all are rendered");
    }
}
