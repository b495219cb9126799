//! A page at one gate, its picture from another behind it, over TLS.

use rmpv::Value as Pack;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::gate_support::{Certificate, ENGINE, FAL_KEY, Gate, RUN, proxied};
use crate::host_desk::data_uri;
use crate::realtime_support::{Page, SOCKET, TIMEOUT, metric, packed_stroke, stroke, with_token};

/// A gate with an engine, and one in front of it that has its key.
async fn two_gates(more: &str) -> (Gate, Gate, Certificate) {
    let certificate = Certificate::new();
    let keys = format!("first {FAL_KEY}");
    let text = format!("{ENGINE}{}[guard.keys]\nenv = \"ACCESS\"\n", certificate.settings());
    let behind = Gate::start_in(&text, &[("ACCESS", &keys)], None).await;
    let url = format!("https://localhost:{}", behind.address.port());
    let front = format!(
        "[upstream]\nca_file = \"{}\"\naddresses = {{ run = \"{url}\", queue = \"{url}\", rest = \"{url}\" }}\n\
         [upstream.sockets]\nauth = \"key\"\n{more}\n\
         [proxy.targets]\nendpoints = [\"fal-ai/lcm-sd15-i2i\"]\n",
        certificate.ca_file().display()
    );
    (Gate::start(&front).await, behind, certificate)
}

#[tokio::test]
async fn a_page_at_one_gate_gets_its_pictures_from_the_engine_of_another() {
    let (front, _behind, _certificate) = two_gates("").await;
    let mut page = Page::open(&front).await;
    for number in 0..3 {
        let id = format!("stroke-{number}");
        page.text(&stroke(&id)).await;
        let result = page.next_text().await;
        assert_eq!(result["request_id"], id, "{result}");
        assert!(result["images"][0]["url"].is_string(), "{result}");
    }
    page.pack(&packed_stroke("bytes")).await;
    let result = page.next_pack().await;
    assert_eq!(result["request_id"], "bytes".into());
    assert!(matches!(result["images"][0]["content"], Pack::Binary(_)), "{result}");
    assert_eq!(metric(&front, "falgate_relay_open").await, 1.0);
}

/// A picture that no encoder makes small.
fn noise(side: u32) -> Vec<u8> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let pixels = (0..side * side * 3).map(|_| byte()).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_raw(side, side, pixels).unwrap();
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

#[tokio::test]
async fn messages_of_a_megabyte_and_bare_pictures_go_through_two_gates() {
    let (front, _behind, _certificate) = two_gates("").await;
    let mut page = Page::at(front.address, &format!("{}&falgate=direct", with_token(SOCKET))).await;
    assert_eq!(page.next_text().await["action"], "falgate.direct");
    page.text(&json!({"prompt": "a cat", "seed": 7, "num_inference_steps": 2})).await;
    assert_eq!(page.next_text().await["action"], "settings");
    let bare = noise(585);
    assert!((1_000_000..1 << 20).contains(&bare.len()), "{}", bare.len());
    for sequence in 1..=3_u32 {
        page.say(Message::binary(bare.clone())).await;
        let Some(Message::Binary(frame)) = page.next().await else { panic!("a bare picture comes") };
        assert_eq!(u32::from_be_bytes(frame[4..8].try_into().unwrap()), sequence);
        let begins = usize::from(u16::from_be_bytes(frame[2..4].try_into().unwrap()));
        image::load_from_memory(&frame[begins..]).unwrap();
    }
    let mut fields = packed_stroke("packed");
    fields[1] = ("image_bytes", Pack::Binary(bare));
    page.pack(&fields).await;
    assert_eq!(page.next_pack().await["request_id"], "packed".into());
    let mut input = stroke("text");
    input["image_url"] = data_uri("image/png", &noise(500)).into();
    assert!(input.to_string().len() > 1_000_000);
    page.text(&input).await;
    assert_eq!(page.next_text().await["request_id"], "text");
    assert!(metric(&front, "falgate_relay_bytes_total{from=\"client\"}").await > 5_000_000.0);
}

#[tokio::test]
async fn the_policy_of_the_front_gate_holds_on_its_sockets() {
    let policy = "[[proxy.policy]]\nendpoint = \"fal-ai/lcm-sd15-i2i\"\n\
                  fields = { num_inference_steps = { max = 2, outside = \"refuse\" } }";
    let (front, _behind, _certificate) = two_gates(policy).await;
    let mut page = Page::open(&front).await;
    for (steps, refused) in [(8, true), (2, false)] {
        let mut input = stroke("a");
        input["num_inference_steps"] = json!(steps);
        page.text(&input).await;
        let answer = page.next_text().await;
        assert_eq!(answer["request_id"], "a", "{answer}");
        assert_eq!((answer["type"] == "x-fal-error", answer["images"].is_array()), (refused, !refused), "{answer}");
    }
    assert_eq!(metric(&front, "falgate_relay_refused_inputs_total").await, 1.0);
}

#[tokio::test]
async fn a_drain_of_the_front_gate_ends_its_relayed_sockets_in_silence() {
    let (front, _behind, _certificate) = two_gates("drain_spread_ms = 20").await;
    let mut page = Page::open(&front).await;
    page.text(&stroke("a")).await;
    page.next_text().await;
    front.ask_to_stop();
    assert_eq!(page.last_words().await, (vec![TIMEOUT.to_owned()], 1000));
    drop(page);
    assert_eq!(front.ended().await.cut, 0);
}

#[tokio::test]
async fn a_page_without_a_token_never_makes_the_gate_dial() {
    let (front, behind, _certificate) = two_gates("").await;
    let mut page = Page::at(front.address, SOCKET).await;
    assert_eq!(page.next_text().await["error"], "Unauthorized");
    assert_eq!(page.close_code().await, 1000);
    assert_eq!(metric(&behind, "falgate_connections_accepted_total").await, 0.0);
}

#[tokio::test]
async fn the_key_of_the_front_gate_shows_nowhere_on_a_relayed_socket() {
    let (front, _behind, _certificate) = two_gates("").await;
    let mut page = Page::at(front.address, &with_token(SOCKET)).await;
    assert!(!format!("{:?}", page.headers).contains("canary"));
    page.say(Message::text("no json at all")).await;
    let said = page.next_text().await;
    assert!(said["type"] == "x-fal-error" && !said.to_string().contains("canary"), "{said}");
    // The same app through the proxy still works beside the socket.
    let run = front.send(proxied(RUN, json!({"prompt": "a cat"}).to_string())).await;
    assert_eq!(run.status, 422, "{run:?}");
}
