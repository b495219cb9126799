//! The operator's rules for inputs, from the request to what fal is sent.

use std::num::NonZeroU64;

use bytes::Bytes;
use falgate::proxy::ProxySettings;
use falgate::wire::{Body, BodyError};
use futures_util::stream;
use http::{Method, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{get, message, open, post, request, send, stack, text, upstream};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";

fn strict() -> ProxySettings {
    let policy = json!([{
        "endpoint": "fal-ai/flux/**",
        "fields": {
            "num_images": {"max": 1},
            "num_inference_steps": {"max": 8, "outside": "clamp"},
            "loras": {"deny": true},
        },
    }]);
    let kib = NonZeroU64::new(1024).unwrap();
    ProxySettings { policy: serde_json::from_value(policy).unwrap(), checked_body_limit_bytes: kib, ..open() }
}

async fn ok() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, "{}")).await
}

/// A body of unknown length, in pieces.
fn pieces(pieces: Vec<&'static str>) -> Body {
    let frames = pieces.into_iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes()))));
    Body::new(StreamBody::new(stream::iter(frames)))
}

#[tokio::test]
async fn an_input_is_clamped_before_it_is_sent() {
    let fal = ok().await;
    let stack = stack(strict(), upstream(&fal.url()));
    let body = r#"{"prompt":"a cat","num_inference_steps":"50","num_images":1}"#;
    assert_eq!(send(&stack, post(RUN, body)).await.status(), StatusCode::OK);
    let seen = fal.only();
    let sent: Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(sent, json!({"prompt":"a cat","num_inference_steps":8,"num_images":1}));
    assert_eq!(seen.header("content-length"), Some(seen.body.len().to_string().as_str()));
}

#[tokio::test]
async fn a_refused_input_is_422_in_fals_shape_and_costs_nothing() {
    let fal = ok().await;
    let stack = stack(strict(), upstream(&fal.url()));
    let answer = send(&stack, post("https://queue.fal.run/fal-ai/flux/dev", r#"{"num_images":"4","loras":[]}"#)).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.headers()["x-fal-billable-units"], "0");
    let body: Value = serde_json::from_str(&text(answer).await).unwrap();
    assert_eq!(body["detail"][0]["loc"], json!(["body", "loras"]));
    assert_eq!(body["detail"][1]["type"], "less_than_equal");
    assert_eq!(body["detail"][1]["ctx"], json!({"le": 1}));
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn no_spelling_smuggles_a_field_past_its_rule() {
    let fal = ok().await;
    let stack = stack(strict(), upstream(&fal.url()));
    for body in [
        r#"{"num_images":1,"num_images":9}"#,
        r#"{"num\u005fimages":9}"#,
        r#"{"num_images":"9"}"#,
        r#"{"num_images":9e0}"#,
        r#"{"num_images":[9]}"#,
        r#"[{"num_images":9}]"#,
        "{\"num_images\":1}{\"num_images\":9}",
        "\u{feff}{\"num_images\":9}",
    ] {
        let answer = send(&stack, post(RUN, body)).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        message(answer).await;
    }
    let answer = send(&stack, post(&format!("{RUN}?num_images=9"), "{}")).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let answer = send(&stack, get(&format!("{RUN}?num_images=9"))).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(fal.connections(), 0);
    send(&stack, post(RUN, r#"{"num_images":9,"num_images":1}"#)).await;
    assert_eq!(fal.only().body, r#"{"num_images":1}"#);
}

#[tokio::test]
async fn other_endpoints_and_calls_are_not_read() {
    let fal = ok().await;
    let stack = stack(strict(), upstream(&fal.url()));
    let body = r#"{ "num_images" : 9 }"#;
    assert_eq!(send(&stack, post("https://fal.run/fal-ai/lcm", body)).await.status(), StatusCode::OK);
    assert_eq!(fal.only().body, body, "passed on byte for byte");
    let status = get("https://queue.fal.run/fal-ai/flux/requests/abc/status");
    assert_eq!(send(&stack, status).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_checked_body_over_its_limit_is_413() {
    let fal = ok().await;
    let stack = stack(strict(), upstream(&fal.url()));
    let long = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(1100));
    assert_eq!(send(&stack, post(RUN, &long)).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn a_streamed_body_over_the_limit_is_413_with_its_length_known_or_not() {
    let fal = ok().await;
    let settings = ProxySettings { body_limit_bytes: NonZeroU64::new(10).unwrap(), ..open() };
    let stack = stack(settings, upstream(&fal.url()));
    let answer = send(&stack, post(RUN, "{\"prompt\":1}")).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(fal.connections(), 0, "an announced length is refused before a byte is sent");
    let answer = send(&stack, request(Method::POST, RUN, pieces(vec!["{\"a\"", ":\"0123456789\"}"]))).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(message(answer).await.contains("10 bytes"));
    let answer = send(&stack, request(Method::POST, RUN, pieces(vec!["{\"a\"", ":1}"]))).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_token_is_short_and_for_allowed_apps_only() {
    let fal = FakeFal::http(|_| Reply::json(200, "\"jwt\"")).await;
    let stack = stack(open(), upstream(&fal.url()));
    let tokens = "https://rest.fal.ai/tokens/";
    let body = r#"{"allowed_apps":["flux"],"token_expiration":86400}"#;
    let answer = send(&stack, post(tokens, body)).await;
    assert_eq!(text(answer).await, "\"jwt\"");
    let sent: Value = serde_json::from_slice(&fal.only().body).unwrap();
    assert_eq!(sent, json!({"allowed_apps":["flux"],"token_expiration":300}));
}
