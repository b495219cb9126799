//! What the edge costs a request: framing its head and body, and its log line.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use falgate::gate::accept::framing::{ChunkScanner, Framer, HeadLimits, HeadScanner};
use falgate::telemetry::{CallNote, HttpMetrics, LogFormat, LogSubject, LogWriter, RequestLogLayer};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use prometheus_client::registry::Registry;
use tower_layer::Layer;
use tower_service::Service;

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, target_bytes: 8 * 1024, fields: 100 };

/// What a browser sends through the key proxy, without its body.
const HEAD: &str = "POST /api/fal/proxy HTTP/1.1\r\nHost: draw.example\r\nContent-Length: 1024\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\nAccept: application/json\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nContent-Type: application/json\r\n\
    x-fal-target-url: https://fal.run/fal-ai/lcm-sd15-i2i\r\nOrigin: https://draw.example\r\nConnection: keep-alive\r\n\
    Referer: https://draw.example/\r\nSec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n\r\n";

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    let message = [HEAD.as_bytes(), &[b'x'; 1024]].concat();
    group.throughput(Throughput::Bytes(HEAD.len() as u64));
    group.bench_function("head", |bencher| {
        bencher.iter(|| HeadScanner::default().scan(black_box(HEAD.as_bytes()), &LIMITS));
    });
    group.throughput(Throughput::Bytes(message.len() as u64));
    let mut framer = Framer::new(LIMITS);
    group.bench_function("message", |bencher| bencher.iter(|| framer.admit(black_box(&message))));
    let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
    let chunks = [chunk.repeat(4), b"0\r\n\r\n".to_vec()].concat();
    group.throughput(Throughput::Bytes(chunks.len() as u64));
    group.bench_function("chunks", |bencher| bencher.iter(|| ChunkScanner::default().scan(black_box(&chunks))));
    group.finish();
}

fn log_line(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let answer = tower::service_fn(|_: Request<_>| async {
        let mut response = Response::new(Full::new(Bytes::from_static(&[b'x'; 1024])));
        let endpoint = Some("fal-ai/lcm-sd15-i2i".to_owned());
        response.extensions_mut().insert(CallNote { endpoint, kind: "run", route: "upstream", waited: Duration::ZERO });
        Ok::<_, Infallible>(response)
    });
    for (name, format) in [("json", LogFormat::Json), ("text", LogFormat::Text)] {
        let (writer, guard) = LogWriter::start(std::io::sink()).expect("a thread");
        let metrics = HttpMetrics::register(&mut Registry::default());
        let subject = |_: &http::Extensions| LogSubject {
            request_id: Some(http::HeaderValue::from_static("0b0c4a5e-6d0f-4c1e-8f39-1f3bb1f2a6de")),
            client: Some(std::net::Ipv4Addr::LOCALHOST.into()),
        };
        let mut service = RequestLogLayer::new(Some(writer), format, metrics, subject).layer(answer);
        criterion.bench_function(&format!("request with metrics and {name} line"), |bencher| {
            bencher.iter(|| {
                let request = Request::post("/api/fal/proxy?x=y").body(Full::<Bytes>::default());
                let asked = service.call(request.expect("a fixed request"));
                runtime.block_on(async {
                    let Ok(response) = asked.await;
                    response.into_body().collect().await
                })
            });
        });
        drop((service, guard));
    }
}

criterion_group!(benches, framing, log_line);
criterion_main!(benches);
