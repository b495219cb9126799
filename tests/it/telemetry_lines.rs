//! One line a request, at the end of its answer, with nothing in it that may not be logged.

use std::convert::Infallible;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use falgate::telemetry::{CallNote, HttpMetrics, LogFormat, LogGuard, LogSubject, LogWriter, RequestLogLayer};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    /// Ends the writer and reads the lines.
    fn lines(&self, guard: LogGuard) -> Vec<Value> {
        drop(guard);
        let bytes = self.0.lock().unwrap().clone();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

fn subject(_: &http::Extensions) -> LogSubject {
    let client = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
    LogSubject { request_id: Some(HeaderValue::from_static("id-1")), client }
}

fn log() -> (RequestLogLayer, Registry, Kept, LogGuard) {
    let kept = Kept::default();
    let (writer, guard) = LogWriter::start(kept.clone()).unwrap();
    let mut registry = Registry::default();
    let metrics = HttpMetrics::register(&mut registry);
    (RequestLogLayer::new(Some(writer), LogFormat::Json, metrics, subject), registry, kept, guard)
}

fn exposed(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// Pieces that come one after the other, without a length that is known ahead.
fn pieces(count: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin {
    let frames = (0..count).map(|_| Ok(http_body::Frame::data(Bytes::from_static(b"12345"))));
    StreamBody::new(futures_util::stream::iter(frames))
}

fn noted<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    let waited = Duration::from_millis(3);
    let endpoint = Some("fal-ai/lcm".to_owned());
    response.extensions_mut().insert(CallNote { endpoint, kind: "run", route: "engine", waited });
    response
}

#[tokio::test]
async fn the_line_comes_at_the_end_of_the_answer_and_tells_both_lengths() {
    let (layer, registry, kept, guard) = log();
    let service = ServiceBuilder::new().layer(layer).service(service_fn(|request: Request<_>| async move {
        let body: falgate::telemetry::Counted<_> = request.into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 10);
        Ok::<_, Infallible>(noted(pieces(3)))
    }));
    let request = Request::post("/api/fal/proxy?fal_jwt_token=canary").header("authorization", "Key canary");
    let answer = service.oneshot(request.body(pieces(2)).unwrap()).await.unwrap();
    assert!(exposed(&registry).contains("falgate_requests_in_flight 1"));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 15);
    let numbers = exposed(&registry);
    assert!(numbers.contains("falgate_requests_in_flight 0"), "{numbers}");
    assert!(numbers.contains(r#"falgate_requests_total{route="engine",status="2xx"} 1"#), "{numbers}");
    assert!(!numbers.contains("canary") && !numbers.contains("lcm"), "labels come from enums: {numbers}");

    let lines = kept.lines(guard);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    for (key, wanted) in [
        ("request_id", Value::from("id-1")),
        ("client", "192.0.2.7".into()),
        ("method", "POST".into()),
        ("path", "/api/fal/proxy".into()),
        ("endpoint", "fal-ai/lcm".into()),
        ("kind", "run".into()),
        ("route", "engine".into()),
        ("status", 200.into()),
        ("bytes_in", 10.into()),
        ("bytes_out", 15.into()),
        ("waited_ms", 3.0.into()),
    ] {
        assert_eq!(line[key], wanted, "{key} in {line}");
    }
    assert!(!line.to_string().contains("canary"), "{line}");
}

#[tokio::test]
async fn a_client_that_leaves_has_its_line_too() {
    let (layer, _, kept, guard) = log();
    let whole = ServiceBuilder::new()
        .layer(layer)
        .service(service_fn(|_: Request<_>| async { Ok::<_, Infallible>(noted(pieces(3))) }));
    let request = || Request::get("/").body(Full::<Bytes>::default()).unwrap();
    let mut body = whole.oneshot(request()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let lines = kept.lines(guard);
    assert_eq!(lines[0]["end"], "gone", "{lines:?}");
    assert_eq!(lines[0]["bytes_out"], 5);
}
