//! Several keys: which one is used, and when the next one is tried.

use falgate::upstream::{FalKeyLayer, KeyError, KeyRing, KeySource, UpstreamClient};
use falgate::wire::Body;
use http::{Method, Request, StatusCode};
use tower::{Layer, ServiceExt};

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{Stack, get, open, piped, post, request, send, stack_with, text, upstream};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";

fn two_keys() -> KeyRing {
    let sources = [KeySource::Env("FIRST".to_owned()), KeySource::Env("SECOND".to_owned())];
    KeyRing::open(&sources, |name| Some(format!("{}:secret", name.to_lowercase()))).unwrap()
}

/// A fal that has this to say about the first key.
async fn dislikes_the_first(status: u16) -> (FakeFal, Stack) {
    let fal = FakeFal::http(move |seen| match seen.header("authorization") {
        Some("Key first:secret") => Reply::json(status, r#"{"detail":"no"}"#),
        _ => Reply::json(200, r#"{"ok":true}"#),
    })
    .await;
    let stack = stack_with(open(), upstream(&fal.url()), two_keys());
    (fal, stack)
}

fn keys(fal: &FakeFal) -> Vec<String> {
    fal.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_refused_or_limited_key_makes_way_for_the_next_and_rests() {
    for status in [401, 403, 429] {
        let (fal, stack) = dislikes_the_first(status).await;
        let answer = send(&stack, post(RUN, r#"{"prompt":"a cat"}"#)).await;
        assert_eq!((answer.status(), text(answer).await.as_str()), (StatusCode::OK, r#"{"ok":true}"#));
        assert_eq!(keys(&fal), ["Key first:secret", "Key second:secret"]);
        assert!(fal.seen().iter().all(|seen| seen.body == r#"{"prompt":"a cat"}"#));
        send(&stack, get("https://queue.fal.run/fal-ai/flux/requests/abc")).await;
        assert_eq!(keys(&fal)[2..], ["Key second:secret"], "the first one rests");
    }
}

#[tokio::test]
async fn an_answer_after_work_is_final() {
    for status in [200, 400, 404, 422, 500, 502, 503, 504] {
        let (fal, stack) = dislikes_the_first(status).await;
        assert_eq!(send(&stack, post(RUN, "{}")).await.status().as_u16(), status);
        assert_eq!(keys(&fal), ["Key first:secret"]);
    }
}

#[tokio::test]
async fn a_body_that_streams_is_sent_once() {
    let (fal, stack) = dislikes_the_first(429).await;
    let (sender, body) = piped();
    sender.send(Ok("{}".into())).await.unwrap();
    drop(sender);
    let answer = send(&stack, request(Method::POST, RUN, body)).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(keys(&fal), ["Key first:secret"]);
    send(&stack, post(RUN, "{}")).await;
    assert_eq!(keys(&fal)[1..], ["Key second:secret"], "the first one rests all the same");
}

#[tokio::test]
async fn when_fal_wants_no_key_its_last_answer_is_handed_back() {
    let fal = FakeFal::http(|_| Reply::json(401, r#"{"detail":"no user"}"#)).await;
    let stack = stack_with(open(), upstream(&fal.url()), two_keys());
    let answer = send(&stack, post(RUN, "{}")).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(text(answer).await, r#"{"detail":"no user"}"#);
    assert_eq!(fal.seen().len(), 2);
}

#[tokio::test]
async fn a_request_that_was_not_admitted_never_meets_a_key() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let client = UpstreamClient::new(upstream(&fal.url())).unwrap();
    let keyed = FalKeyLayer::new(two_keys()).layer(client);
    let request = Request::post(format!("{}/fal-ai/flux", fal.url())).body(Body::empty()).unwrap();
    let answer = keyed.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn a_key_file_that_changes_is_used_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "old:secret\n").unwrap();
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let ring = KeyRing::open(&[KeySource::File(path.clone())], |_| None).unwrap();
    let stack = stack_with(open(), upstream(&fal.url()), ring.clone());
    send(&stack, post(RUN, "{}")).await;
    std::fs::write(&path, "newer:secret\n").unwrap();
    ring.reload().unwrap();
    send(&stack, post(RUN, "{}")).await;
    assert_eq!(keys(&fal), ["Key old:secret", "Key newer:secret"]);
}

#[test]
fn a_file_that_cannot_be_read_names_the_setting() {
    let error = KeyRing::open(&[KeySource::File("no/such/file".into())], |_| None).unwrap_err();
    assert!(matches!(error, KeyError::Unreadable { .. }));
    assert!(error.to_string().contains("upstream.keys"));
}
