//! Access keys: case 33, and refusals in fal's words (protocol spec 1.5).

use std::convert::Infallible;

use falgate::guard::{AccessKeys, Caller, Identity, IdentityBy, IdentityLayer};
use falgate::wire::{Body, collect};
use http::{Request, Response, StatusCode};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

async fn ask(layer: IdentityLayer, request: http::request::Builder) -> (StatusCode, String) {
    let service = ServiceBuilder::new().layer(layer).service(service_fn(|request: Request<()>| async move {
        let caller = request.extensions().get::<Caller>().map_or("nobody", |caller| &caller.name).to_owned();
        Ok::<_, Infallible>(Response::new(Body::from(caller)))
    }));
    let answer = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let status = answer.status();
    let body = collect(answer.into_body(), 1024).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn keys() -> IdentityLayer {
    let keys = AccessKeys::read(["ann 0123:canary-of-ann-0123\nbob 4567:canary-of-bob-4567"]).unwrap();
    IdentityLayer::new(Identity::new(vec![IdentityBy::Keys(keys)]))
}

fn refusal(detail: &str) -> (StatusCode, String) {
    (StatusCode::UNAUTHORIZED, format!(r#"{{"detail":"{detail}","message":"{detail}"}}"#))
}

#[tokio::test]
async fn a_known_key_passes_and_names_its_caller() {
    let with = |value| Request::post("/").header("authorization", value);
    assert_eq!(ask(keys(), with("Key 4567:canary-of-bob-4567")).await, (StatusCode::OK, "bob".to_owned()));
    assert_eq!(ask(keys(), with("Bearer 0123:canary-of-ann-0123")).await, (StatusCode::OK, "ann".to_owned()));
}

#[tokio::test]
async fn a_wrong_key_is_refused_in_fals_words_and_never_repeated() {
    let with = |value| Request::post("/").header("authorization", value);
    let format = "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'.";
    assert_eq!(ask(keys(), with("Key 0123:canary-guess")).await, refusal("No user found for Key ID and Secret"));
    assert_eq!(ask(keys(), with("Key canary")).await, refusal(format));
    assert_eq!(ask(keys(), with("Basic canary")).await, refusal(format));
    assert_eq!(ask(keys(), Request::post("/")).await, (StatusCode::OK, "nobody".to_owned()), "none is not a bad one");
    let two = with("Key 0123:canary-of-ann-0123").header("authorization", "Key 0123:canary-of-ann-0123");
    assert_eq!(ask(keys(), two).await, refusal(format));
}

#[tokio::test]
async fn options_never_needs_a_key_and_an_open_door_asks_nobody() {
    assert_eq!(ask(keys(), Request::options("/")).await, (StatusCode::OK, "nobody".to_owned()));
    assert_eq!(
        ask(IdentityLayer::new(Identity::default()), Request::post("/")).await,
        (StatusCode::OK, "nobody".to_owned())
    );
}
