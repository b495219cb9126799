//! Bytes of bodies: as announced, as they pass, and cut where they are more than their caller may send.

use std::convert::Infallible;
use std::net::IpAddr;

use bytes::Bytes;
use falgate::guard::{ClientAddr, LimitLayer, LimitSettings, Limits, Prices};
use falgate::wire::{AllowedTargets, Body, Door, EndpointPattern, HostClass, PlainPath, TargetSettings};
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};

use crate::gate_support::{Gate, fal_at};
use crate::support::fake_fal::{FakeFal, Reply};

trait Limited: Service<Request<Body>, Response = Response<Body>, Error = Infallible> {}
impl<S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>> Limited for S {}

/// A service of so many bytes an hour and a caller. It reads what it is sent, unless the path says otherwise, and says how much
/// that was.
fn service(amount: u32) -> impl Limited {
    let rule = json!({"name": "bytes", "of": "bytes", "by": "all", "amount": amount, "per_ms": 3_600_000});
    let settings: LimitSettings = serde_json::from_value(json!({ "rule": [rule] })).unwrap();
    let layer = LimitLayer::new(Limits::open(&settings).unwrap(), Prices::new(&settings));
    ServiceBuilder::new().layer(layer).service(service_fn(|request: Request<Body>| async move {
        if request.uri().path().ends_with("/deaf") {
            return Ok::<_, Infallible>(Response::new(Body::empty()));
        }
        Ok(match request.into_body().collect().await {
            Ok(all) => Response::new(Body::from(all.to_bytes().len().to_string())),
            Err(_) => {
                let mut answer = Response::new(Body::from("broken"));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                answer
            }
        })
    }))
}

/// A body in pieces that does not say how long it is.
fn untold(pieces: &'static [usize]) -> Body {
    let frames = pieces.iter().map(|bytes| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; *bytes]))));
    Body::new(StreamBody::new(stream::iter(frames)))
}

/// A body that says how long it is and is no buffer in memory.
fn told(bytes: usize) -> Body {
    Body::new(http_body_util::Full::new(Bytes::from(vec![b'x'; bytes])))
}

fn call(path: &str, body: Body) -> Request<Body> {
    let endpoints = vec![EndpointPattern::parse("**").unwrap()];
    let allowed = AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() });
    let method = http::Method::POST;
    let plain = PlainPath {
        class: HostClass::Run,
        legacy_label: None,
        method: &method,
        path_and_query: path,
        door: Door::Http,
    };
    let target = allowed.admit_path(&plain).unwrap();
    let mut request = Request::post(path).body(body).unwrap();
    request.extensions_mut().insert(target);
    request.extensions_mut().insert(ClientAddr(IpAddr::from([203, 0, 113, 7])));
    request
}

async fn sent(service: &mut impl Limited, request: Request<Body>) -> (u16, http::HeaderMap, String) {
    let answer = service.ready().await.unwrap().call(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_body_of_untold_length_is_charged_as_it_passes_and_cut_in_fals_shape() {
    let mut service = service(1000);
    let (status, _, read) = sent(&mut service, call("/fal-ai/lcm", untold(&[1, 300, 300]))).await;
    assert_eq!((status, &*read), (200, "601"));
    let (status, headers, body) = sent(&mut service, call("/fal-ai/lcm", untold(&[200, 300, 9_999]))).await;
    assert_eq!(status, 429, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["detail"], body["message"]);
    assert!(body["detail"].as_str().unwrap().contains("too many bytes"), "{body}");
    // 801 bytes are spent, and whoever comes again comes with 500: 301 more have to come back, at 1000 an hour.
    let wait: u64 = headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1083..=1085).contains(&wait), "{wait}");
    tokio::time::advance(std::time::Duration::from_secs(wait)).await;
    assert_eq!(sent(&mut service, call("/fal-ai/lcm", untold(&[200, 300]))).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_never_allowed_is_413_whether_or_not_it_says_how_long_it_is() {
    let mut service = service(1000);
    for body in [told(1001), Body::from("x".repeat(1001)), untold(&[600, 300, 200])] {
        let (status, headers, body) = sent(&mut service, call("/fal-ai/lcm", body)).await;
        assert_eq!((status, headers.get("retry-after")), (413, None), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_spent_refuses_a_body_of_untold_length_before_it_is_read() {
    let mut service = service(10);
    assert_eq!(sent(&mut service, call("/fal-ai/lcm", told(10))).await.0, 200);
    assert_eq!(sent(&mut service, call("/fal-ai/lcm/deaf", untold(&[1]))).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_and_never_passes_is_given_back() {
    let mut service = service(1000);
    for _ in 0..5 {
        assert_eq!(sent(&mut service, call("/fal-ai/lcm/deaf", told(900))).await.0, 200);
    }
    assert_eq!(sent(&mut service, call("/fal-ai/lcm", told(900))).await.2, "900");
    assert_eq!(sent(&mut service, call("/fal-ai/lcm", told(900))).await.0, 429, "what passed is spent");
}

#[tokio::test]
async fn a_chunked_body_to_fal_is_cut_at_the_gate_and_the_answer_is_a_refusal() {
    let fal = FakeFal::http(|_| Reply::json(200, "{\"from\":\"fal\"}")).await;
    let rule = "[[limits.rule]]\nname = \"bytes\"\nof = \"bytes\"\nby = \"address\"\namount = 100\nper_ms = 3600000\n";
    let gate = Gate::start(&format!("{}{rule}", fal_at(&fal.url()))).await;
    let head = "POST /api/fal/proxy HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\ncontent-type: application/json\r\n\
                x-fal-target-url: https://fal.run/fal-ai/flux\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = gate.probe(format!("{head}14\r\n{{\"prompt\":\"twenty.\"}}\r\n0\r\n\r\n")).await;
    assert!(whole.starts_with("HTTP/1.1 200"), "{whole}");
    let piece = "x".repeat(64);
    let cut = gate.probe(format!("{head}40\r\n{piece}\r\n40\r\n{piece}\r\n0\r\n\r\n")).await;
    assert!(cut.starts_with("HTTP/1.1 4") && cut.contains("bytes"), "{cut}");
    assert!(["429", "413"].iter().any(|status| cut[9..].starts_with(status)), "{cut}");
}
