//! `enable_safety_checks` as pages send it, through a whole gate: requests and sockets, with a checker and without.

use falgate::engine::{FakePart, FakeSettings};
use image::{ImageFormat, Rgb, RgbImage};
use rmpv::Value as Pack;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::gate_support::{APP, ENGINE, FAL_KEY, Gate};
use crate::host_desk::{Answer, data_uri, first_picture};
use crate::realtime_support::{Page, SOCKET, jpeg, packed_stroke, with_token};

const REFUSE: &str = "[host]\nwithout_safety_checker = \"refuse\"\n";

async fn gate_with(text: &str, model: FakeSettings) -> Gate {
    Gate::start_on(&format!("{text}{ENGINE}"), model, (&[("FAL_KEY", FAL_KEY)], None)).await
}

/// A gate whose checker flags what is brighter than grey.
async fn strict() -> Gate {
    gate_with("", FakeSettings::default().with_checker(128)).await
}

/// A gate whose model has no checker.
async fn unchecked(text: &str) -> Gate {
    gate_with(text, FakeSettings::default()).await
}

/// An input whose picture has one level of grey.
fn grey(level: u8, (width, height): (u32, u32), more: &Value) -> Value {
    let mut png = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(width, height, Rgb([level; 3])).write_to(&mut png, ImageFormat::Png).unwrap();
    let uri = data_uri("image/png", png.get_ref());
    let mut input = json!({ "prompt": "a", "image_url": uri, "seed": 1, "sync_mode": true, "format": "png" });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

fn flags(output: &Value) -> (&Value, &Value) {
    (&output["nsfw_content_detected"], &output["has_nsfw_concepts"])
}

fn is_black(answer: &Answer) -> bool {
    first_picture(answer).pixels().all(|pixel| pixel.0 == [0; 3])
}

async fn run(gate: &Gate, input: &Value) -> Answer {
    let answer = gate.post(APP, input.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[tokio::test]
async fn a_flagged_picture_comes_back_black_at_its_size_and_says_so() {
    let gate = strict().await;
    let flagged = run(&gate, &grey(250, (128, 64), &json!({}))).await;
    assert_eq!(flags(&flagged.json()), (&json!([true]), &json!([true])));
    let picture = first_picture(&flagged);
    assert_eq!((picture.dimensions(), is_black(&flagged)), ((128, 64), true));
    let clean = run(&gate, &grey(5, (64, 64), &json!({}))).await;
    assert_eq!((flags(&clean.json()), is_black(&clean)), ((&json!([false]), &json!([false])), false));
    assert_eq!((flagged.header("x-falgate-warning"), clean.header("x-falgate-warning")), ("", ""));
}

#[tokio::test]
async fn who_wants_no_check_gets_none_by_either_name_of_the_switch() {
    let gate = strict().await;
    for no in [json!({"enable_safety_checks": false}), json!({"enable_safety_checker": "off"})] {
        let answer = run(&gate, &grey(250, (64, 64), &no)).await;
        assert_eq!((flags(&answer.json()), is_black(&answer)), ((&json!([false]), &json!([false])), false));
    }
    assert!(gate.control().calls_of(FakePart::Check).is_empty());
}

#[tokio::test]
async fn people_of_one_moment_are_checked_by_what_each_asked_for() {
    let gate = strict().await;
    let no = json!({"enable_safety_checks": false});
    let inputs = [
        grey(250, (64, 64), &json!({"num_images": 2})),
        grey(5, (128, 64), &json!({})),
        grey(250, (64, 64), &no),
        grey(250, (64, 128), &json!({})),
        grey(5, (64, 64), &no),
    ];
    let answers = futures_util::future::join_all(inputs.iter().map(|input| run(&gate, input))).await;
    let found: Vec<(Value, bool)> =
        answers.iter().map(|answer| (answer.json()["nsfw_content_detected"].clone(), is_black(answer))).collect();
    let want = [
        (json!([true, true]), true),
        (json!([false]), false),
        (json!([false]), false),
        (json!([true]), true),
        (json!([false]), false),
    ];
    assert_eq!(found, want);
    let checked: usize = gate.control().calls_of(FakePart::Check).iter().map(|call| call.rows).sum();
    assert_eq!(checked, 4);
}

#[tokio::test]
async fn a_socket_gets_flags_and_black_pictures_in_both_dialects() {
    let gate = strict().await;
    let mut page = Page::open(&gate).await;
    page.text(&grey(250, (64, 64), &json!({"request_id": "bright"}))).await;
    let result = page.next_text().await;
    assert_eq!((&result["request_id"], flags(&result)), (&json!("bright"), (&json!([true]), &json!([true]))));
    let mut stroke = packed_stroke("packed");
    stroke[1].1 = Pack::Binary(jpeg(64));
    page.pack(&stroke).await;
    let result = page.next_pack().await;
    let flagged = result["nsfw_content_detected"][0].as_bool().unwrap();
    let Pack::Binary(content) = &result["images"][0]["content"] else { panic!("{result}") };
    let picture = image::load_from_memory(content).unwrap().into_rgb8();
    assert_eq!(picture.pixels().all(|pixel| pixel.0.iter().all(|level| *level < 3)), flagged);
    page.text(&grey(250, (64, 64), &json!({"enable_safety_checks": false}))).await;
    assert_eq!(flags(&page.next_text().await), (&json!([false]), &json!([false])));
}

#[tokio::test]
async fn without_a_checker_a_request_is_served_and_its_answer_says_what_is_missing() {
    let gate = unchecked("").await;
    let asked = run(&gate, &grey(250, (64, 64), &json!({}))).await;
    assert_eq!(asked.header("x-falgate-warning"), "safety-checker-missing");
    assert_eq!((flags(&asked.json()), is_black(&asked)), ((&json!([false]), &json!([false])), false));
    let not_asked = run(&gate, &grey(250, (64, 64), &json!({"enable_safety_checks": false}))).await;
    assert_eq!(not_asked.header("x-falgate-warning"), "");
}

#[tokio::test]
async fn without_a_checker_results_on_a_socket_say_what_they_lack_and_no_other_frame_comes() {
    let gate = unchecked("").await;
    let mut page = Page::open(&gate).await;
    page.text(&grey(9, (64, 64), &json!({"request_id": "1", "enable_safety_checks": false}))).await;
    let first = page.next_text().await;
    assert_eq!((&first["request_id"], &first["warning"]), (&json!("1"), &Value::Null));
    page.text(&grey(9, (64, 64), &json!({"request_id": "2"}))).await;
    let second = page.next_text().await;
    assert_eq!((&second["request_id"], &second["warning"]), (&json!("2"), &json!("safety-checker-missing")));
    assert_eq!(flags(&second), (&json!([false]), &json!([false])));
    page.pack(&packed_stroke("3")).await;
    let third = page.next_pack().await;
    assert_eq!((third["request_id"].as_str(), third["warning"].as_str()), (Some("3"), Some("safety-checker-missing")));
}

#[tokio::test]
async fn without_a_checker_a_page_of_bare_pictures_is_told_once() {
    let gate = unchecked("").await;
    let mut page = Page::at(gate.address, &with_token(&format!("{SOCKET}?falgate=direct"))).await;
    assert_eq!(page.next_text().await["action"], "falgate.direct");
    page.text(&json!({"prompt": "a", "request_id": "s"})).await;
    assert_eq!(page.next_text().await["action"], "settings");
    page.say(Message::binary(jpeg(64))).await;
    let note = json!({"type": "x-fal-message", "action": "safety-checker-missing", "sequence": 1});
    assert_eq!(page.next_text().await, note);
    for sequence in 1..=2_u8 {
        let Some(Message::Binary(frame)) = page.next().await else { panic!("a picture was to come") };
        assert_eq!(frame[7], sequence);
        page.say(Message::binary(jpeg(64))).await;
    }
}

#[tokio::test]
async fn where_the_settings_refuse_it_a_request_that_asks_for_a_check_is_a_422_before_any_work() {
    let gate = unchecked(REFUSE).await;
    for asks in [json!({}), json!({"enable_safety_checks": true}), json!({"enable_safety_checker": 1})] {
        let answer = gate.post(APP, grey(9, (64, 64), &asks).to_string()).await;
        let fault = answer.fault();
        assert_eq!(fault["loc"], json!(["body", "enable_safety_checks"]));
        assert_eq!(fault["type"], "feature_not_supported");
        assert!(fault["msg"].as_str().unwrap().contains("no safety checker"), "{fault}");
    }
    assert!(gate.control().calls().is_empty());
    run(&gate, &grey(9, (64, 64), &json!({"enable_safety_checks": false}))).await;
}

#[tokio::test]
async fn where_the_settings_refuse_it_a_socket_hears_why_and_lives() {
    let gate = unchecked(REFUSE).await;
    let mut page = Page::open(&gate).await;
    page.text(&grey(9, (64, 64), &json!({"request_id": "1"}))).await;
    let error = page.next_text().await;
    assert_eq!((&error["type"], &error["error"]), (&json!("x-fal-error"), &json!("VALIDATION_ERROR")));
    assert_eq!(error["request_id"], "1");
    assert!(error["reason"].as_str().unwrap().contains("no safety checker"), "{error}");
    page.text(&grey(9, (64, 64), &json!({"request_id": "2", "enable_safety_checks": false}))).await;
    assert_eq!(page.next_text().await["request_id"], "2");
}

#[tokio::test]
async fn a_checker_makes_the_refusal_needless() {
    let gate = gate_with(REFUSE, FakeSettings::default().with_checker(255)).await;
    let answer = run(&gate, &grey(9, (64, 64), &json!({}))).await;
    assert_eq!(answer.header("x-falgate-warning"), "");
    assert_eq!(gate.control().calls_of(FakePart::Check).len(), 1);
}
