//! What goes over a socket to the engine: dialects, fields, results and errors (protocol spec 6 and 11.5).

use rmpv::Value as Pack;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::gate_support::{ENGINE, Gate};
use crate::realtime_support::{Page, Wishes, jpeg, metric, packed_stroke, stroke, with_token};

async fn gate() -> Gate {
    Gate::start(ENGINE).await
}

#[tokio::test]
async fn case_64_and_68_text_in_gives_text_out_on_every_path() {
    let gate = gate().await;
    let legacy = Wishes { host: Some("110602490-lcm-sd15-i2i.gateway.gate.test"), ..Wishes::default() };
    for (path, wishes) in [
        ("/fal-ai/lcm-sd15-i2i/realtime", Wishes::default()),
        ("/fal-ai/lcm-sd15-i2i/ws", Wishes::default()),
        ("/110602490/lcm-sd15-i2i/realtime", Wishes::default()),
        ("/110602490-lcm-sd15-i2i/realtime", Wishes::default()),
        ("/110602490/lcm-sd15-i2i/ws?max_buffering=2", Wishes::default()),
        ("/fal-ai/lcm-sd15-i2i/realtime", Wishes { host: Some("queue.gate.test"), ..Wishes::default() }),
        ("/fal-ai/lcm-sd15-i2i/realtime", Wishes { host: Some("rest.gate.test"), ..Wishes::default() }),
        ("/ws", legacy),
    ] {
        let mut page = Page::wishing(gate.address, &with_token(path), &wishes).await.unwrap();
        page.text(&stroke("r1")).await;
        let result = page.next_text().await;
        assert_eq!(result["request_id"], "r1", "{path}");
        assert!(result["images"][0]["url"].as_str().unwrap().starts_with("data:image/jpeg;base64,"), "{path}");
    }
}

#[tokio::test]
async fn case_67_binary_in_gives_binary_out_in_the_form_of_the_input() {
    let gate = gate().await;
    let mut page = Page::open(&gate).await;
    page.pack(&packed_stroke("r1")).await;
    let result = page.next_pack().await;
    let image = &result["images"][0];
    let Pack::Binary(content) = &image["content"] else { panic!("{image}") };
    assert_eq!(image::load_from_memory(content).unwrap().width(), 64);
    assert_eq!((image["width"].as_u64(), image["content_type"].as_str()), (Some(64), Some("image/jpeg")));
    assert_eq!((result["request_id"].as_str(), result["seed"].as_u64()), (Some("r1"), Some(42)));
    assert!(image["url"].is_nil());

    let url = stroke("r2")["image_url"].as_str().unwrap().to_owned();
    page.pack(&[("prompt", "a cat".into()), ("image_url", url.as_str().into())]).await;
    let result = page.next_pack().await;
    assert!(result["images"][0]["url"].as_str().unwrap().starts_with("data:image/jpeg"));
    assert_eq!(result["request_id"].as_str(), Some(""), "absent is empty");

    page.pack(&[("prompt", "a".into()), ("image_url", url.as_str().into()), ("_force_msgpack", Pack::Binary(vec![]))])
        .await;
    assert!(matches!(page.next_pack().await["images"][0]["content"], Pack::Binary(_)));
}

#[tokio::test]
async fn case_65_each_reply_has_the_dialect_of_its_own_frame() {
    let gate = gate().await;
    let mut page = Page::at(gate.address, &with_token("/fal-ai/lcm-sd15-i2i/ws")).await;
    page.pack(&packed_stroke("binary")).await;
    assert_eq!(page.next_pack().await["request_id"].as_str(), Some("binary"));
    page.text(&stroke("text")).await;
    assert_eq!(page.next_text().await["request_id"], "text");
}

#[tokio::test]
async fn every_payload_that_pages_are_known_to_send_is_taken() {
    let gate = gate().await;
    let mut page = Page::open(&gate).await;
    let url = stroke("")["image_url"].as_str().unwrap().to_owned();
    let broken: String =
        url.as_bytes().chunks(76).map(|line| format!("{}\r\n", str::from_utf8(line).unwrap())).collect();
    for changes in [
        json!({"sync_mode": 1, "image_url": broken}),
        json!({"image_url": url.replace("image/png", "image/jpeg")}),
        json!({"image_url": url.replace("image/png", "")}),
        json!({"num_inference_steps": "2", "enable_safety_checks": false, "strength": "0.65"}),
        json!({"seed": null, "guidance_scale": null, "negative_prompt": null, "request_id": null}),
        json!({"image_size": "square", "model_name": "runwayml/stable-diffusion-v1-5", "enable_safety_checker": "true"}),
        json!({"image_size": {"width": 512, "height": 512}, "_force_msgpack": {}}),
        json!({"seed": 18_446_744_073_709_551_615_u64}),
    ] {
        let mut input = stroke("r");
        input.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        page.text(&input).await;
        let result = page.next_text().await;
        assert!(result["images"][0]["url"].is_string(), "{changes} gives {result}");
    }
    for (field, side) in [("image_bytes", 64), ("image", 128)] {
        page.pack(&[("prompt", "a".into()), (field, Pack::Binary(jpeg(side))), ("num_inference_steps", "2".into())])
            .await;
        let result = page.next_pack().await;
        assert_eq!(result["images"][0]["width"].as_u64(), Some(u64::from(side)), "{field}");
        assert_eq!(matches!(result["image"], Pack::Binary(_)), field == "image");
    }
}

#[tokio::test]
async fn a_result_says_where_its_time_went_and_flags_nothing() {
    let gate = gate().await;
    let mut page = Page::open(&gate).await;
    page.text(&stroke("r")).await;
    let result = page.next_text().await;
    let second = |name: &str| result["timings"][name].as_f64().unwrap_or_else(|| panic!("{name} of {result}"));
    let parts: f64 = ["decode", "queue", "inference", "encode"].into_iter().map(second).sum();
    assert!(parts <= second("total") + 0.005 && second("total") < 30.0, "{result}");
    assert_eq!(result["nsfw_content_detected"], json!([false]));
    assert_eq!(result["has_nsfw_concepts"], json!([false]));
    assert_eq!((&result["seed"], &result["num_inference_steps"]), (&json!(42), &json!(4)));
}

fn is_validation_error(frame: &Value) -> bool {
    frame["type"] == "x-fal-error" && frame["error"] == "VALIDATION_ERROR" && frame["reason"].is_string()
}

#[tokio::test]
async fn case_76_and_77_a_bad_frame_is_told_in_text_and_the_socket_lives() {
    let gate = gate().await;
    let mut page = Page::open(&gate).await;
    let missing = json!({"image_url": "data:,", "request_id": "bad"});
    for frame in [
        Message::text(missing.to_string()),
        Message::text("no json"),
        Message::text(""),
        Message::text("[1]"),
        Message::binary(&b""[..]),
        Message::binary(&b"\xc1\xff\x00garbage"[..]),
        Message::binary(&b"\xdf\xff\xff\xff\xff"[..]),
        Message::binary(vec![0x91; 100_000]),
        Message::text(format!("{{\"a\":{}", "[".repeat(100_000))),
    ] {
        page.say(frame.clone()).await;
        let error = page.next_text().await;
        assert!(is_validation_error(&error), "{frame:?} gives {error}");
        let id = (frame == Message::text(missing.to_string())).then_some("bad");
        assert_eq!(error["request_id"].as_str(), id);
    }
    page.pack(&[("prompt", "a".into())]).await;
    assert!(is_validation_error(&page.next_text().await), "control frames are text to binary inputs too (case 82)");
    page.text(&stroke("good")).await;
    assert_eq!(page.next_text().await["request_id"], "good");
    assert!(metric(&gate, "falgate_socket_errors_total").await >= 10.0);
}

#[tokio::test]
async fn a_picture_that_cannot_be_loaded_is_told_and_the_socket_lives() {
    let gate = gate().await;
    let mut page = Page::open(&gate).await;
    let mut input = stroke("p");
    input["image_url"] = json!("data:image/png;base64,AAAA");
    page.text(&input).await;
    let error = page.next_text().await;
    assert!(is_validation_error(&error) && error["request_id"] == "p", "{error}");
    input["image_url"] = json!("http://10.0.0.1/a.png");
    page.text(&input).await;
    assert!(is_validation_error(&page.next_text().await));
    page.text(&stroke("good")).await;
    assert_eq!(page.next_text().await["request_id"], "good");
}

#[tokio::test]
async fn a_device_that_fails_is_told_without_its_words_and_the_socket_lives() {
    let gate = gate().await;
    let mut page = Page::open(&gate).await;
    gate.control().inject(falgate::engine::FakePart::Step, 0, falgate::engine::FakeFault::Fail);
    page.text(&stroke("fails")).await;
    let error = page.next_text().await;
    let wanted = json!({
        "type": "x-fal-error", "error": "INTERNAL_ERROR", "reason": "Internal Server Error", "request_id": "fails",
    });
    assert_eq!(error, wanted);
    page.text(&stroke("good")).await;
    assert_eq!(page.next_text().await["request_id"], "good");
}

#[tokio::test]
async fn case_85_fragments_and_large_messages_are_taken_up_to_the_limit() {
    let gate = Gate::start(&format!("{ENGINE}[host.realtime]\nmessage_bytes = 2000000\n")).await;
    let mut page = Page::open(&gate).await;
    let mut input = stroke("large");
    input["padding"] = json!("x".repeat(1_500_000));
    page.text(&input).await;
    assert_eq!(page.next_text().await["request_id"], "large");

    let text = stroke("parts").to_string();
    let parts: Vec<&[u8]> = text.as_bytes().chunks(100).collect();
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
    for (at, part) in parts.iter().enumerate() {
        let kind = if at == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(part.to_vec(), OpCode::Data(kind), at + 1 == parts.len());
        page.say(Message::Frame(frame)).await;
        // Pings may stand between the parts.
        page.say(Message::Ping(b"?".as_slice().into())).await;
    }
    assert_eq!(page.next_text().await["request_id"], "parts");

    input["padding"] = json!("x".repeat(2_000_000));
    page.text(&input).await;
    let (words, code) = page.last_words().await;
    assert_eq!((words.len(), code), (1, 1009));
    assert!(words[0].contains("TOO_LARGE"), "{words:?}");
}
