//! The proxy, the key and the client as an application stacks them, in front of a fake fal.

use std::num::NonZeroU64;

use bytes::Bytes;
use falgate::proxy::{FalProxy, FalProxyLayer, ProxySettings};
use falgate::upstream::{Addresses, FalKeyLayer, KeyRing, UpstreamClient, UpstreamSettings, WithFalKey};
use falgate::wire::{AllowedTargets, Body, BodyError, EndpointPattern, TargetSettings};
use futures_util::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tokio::sync::mpsc;
use tower::{Layer, ServiceExt};

/// The key that must never be seen anywhere but in the header.
pub(crate) const CANARY: &str = "canary-id:canary-secret";

pub(crate) type Stack = FalProxy<WithFalKey<UpstreamClient>>;

/// Settings that reach `url` for every class, with small limits.
pub(crate) fn upstream(url: &str) -> UpstreamSettings {
    let address = || url.parse().unwrap();
    UpstreamSettings {
        addresses: Addresses { run: address(), queue: address(), rest: address() },
        allow_plain_loopback: true,
        ..UpstreamSettings::default()
    }
}

/// Timeouts in milliseconds: connect, first byte, idle.
pub(crate) fn hurried(settings: UpstreamSettings, ms: [u64; 3]) -> UpstreamSettings {
    let [connect, first, idle] = ms.map(|ms| NonZeroU64::new(ms).unwrap());
    UpstreamSettings { connect_timeout_ms: connect, first_byte_timeout_ms: first, idle_timeout_ms: idle, ..settings }
}

/// Settings that allow everything of `fal-ai`.
pub(crate) fn open() -> ProxySettings {
    let endpoints = vec![EndpointPattern::parse("fal-ai/**").unwrap()];
    let targets = TargetSettings { endpoints, tokens: true, storage: true, webhooks: false };
    ProxySettings { targets, ..ProxySettings::default() }
}

/// A stack over these settings and the canary key.
pub(crate) fn stack(proxy: ProxySettings, upstream: UpstreamSettings) -> Stack {
    let ring = KeyRing::single(CANARY.to_owned()).unwrap();
    stack_with(proxy, upstream, ring)
}

/// A stack over these settings and keys.
pub(crate) fn stack_with(proxy: ProxySettings, upstream: UpstreamSettings, ring: KeyRing) -> Stack {
    let allowed = AllowedTargets::new(proxy.targets.clone());
    let client = UpstreamClient::new(upstream).unwrap();
    FalProxyLayer::new(proxy, allowed).layer(FalKeyLayer::new(ring).layer(client))
}

/// A stack that allows everything of `fal-ai`, in front of the fake at `url`.
pub(crate) fn open_stack(url: &str) -> Stack {
    stack(open(), upstream(url))
}

/// A proxied POST with a JSON body.
pub(crate) fn post(target: &str, body: &str) -> Request<Body> {
    request(Method::POST, target, Body::from(body.to_owned()))
}

/// A proxied GET.
pub(crate) fn get(target: &str) -> Request<Body> {
    request(Method::GET, target, Body::empty())
}

/// A proxied request as fal's JavaScript client makes it.
pub(crate) fn request(method: Method, target: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/api/fal/proxy")
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("x-fal-target-url", target)
        .body(body)
        .unwrap()
}

/// A body of unknown length whose pieces come through the sender; it ends when the sender is dropped.
pub(crate) fn piped() -> (mpsc::Sender<Result<Bytes, BodyError>>, Body) {
    let (sender, pieces) = mpsc::channel(1);
    let frames = stream::unfold(pieces, |mut pieces: mpsc::Receiver<Result<Bytes, BodyError>>| async move {
        let piece = pieces.recv().await?;
        Some((piece.map(Frame::data), pieces))
    });
    (sender, Body::new(StreamBody::new(Box::pin(frames))))
}

/// Sends a request through a stack.
pub(crate) async fn send(stack: &Stack, request: Request<Body>) -> Response<Body> {
    match stack.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The whole body as text.
pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks that an answer is an error as fal's clients read it, and gives its `message`.
pub(crate) async fn message(response: Response<Body>) -> String {
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    assert!(body["detail"].is_string() || body["detail"].is_array(), "{body}");
    body["message"].as_str().unwrap().to_owned()
}
