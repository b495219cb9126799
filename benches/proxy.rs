//! What the proxy does per request without the network: admission, headers, policy.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use falgate::proxy::{Policies, Sends, rewrite_request};
use falgate::wire::{AllowedTargets, EndpointId, EndpointPattern, TargetSettings};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

fn admit(bench: &mut Criterion) {
    let endpoints = ["fal-ai/flux/**", "fal-ai/fast-lcm-diffusion/**", "fal-ai/lcm-sd15-i2i"];
    let endpoints = endpoints.map(|pattern| EndpointPattern::parse(pattern).expect("a literal pattern"));
    let gate = AllowedTargets::new(TargetSettings { endpoints: endpoints.to_vec(), ..TargetSettings::default() });
    let run = HeaderValue::from_static("https://fal.run/fal-ai/flux/dev");
    let status = HeaderValue::from_static("https://queue.fal.run/fal-ai/flux/requests/0e1b7f52-95f6/status?logs=1");
    let other = HeaderValue::from_static("https://fal.run.evil.test/fal-ai/flux/dev");
    bench.bench_function("admit a run", |b| b.iter(|| gate.admit(black_box(Some(&run)), &Method::POST)));
    bench.bench_function("admit a status", |b| b.iter(|| gate.admit(black_box(Some(&status)), &Method::GET)));
    bench.bench_function("refuse a host", |b| b.iter(|| gate.admit(black_box(Some(&other)), &Method::POST)));
}

fn rewrite(bench: &mut Criterion) {
    let headers = HeaderMap::from_iter(
        [
            ("host", "draw.example"),
            ("connection", "keep-alive"),
            ("content-length", "1024"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("accept-language", "en"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"),
            ("origin", "https://draw.example"),
            ("referer", "https://draw.example/"),
            ("cookie", "session=0123456789abcdef"),
            ("x-fal-target-url", "https://fal.run/fal-ai/flux/dev"),
            ("x-fal-queue-priority", "normal"),
        ]
        .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    bench.bench_function("rewrite a request", |b| b.iter(|| rewrite_request(black_box(&headers), Sends::Json)));
}

fn policy(bench: &mut Criterion) {
    let settings = json!([{
        "endpoint": "fal-ai/flux/**",
        "fields": {"num_images": {"max": 1}, "num_inference_steps": {"max": 8}, "loras": {"deny": true}},
    }]);
    let policies = Policies::new(serde_json::from_value(settings).expect("literal settings"));
    let endpoint = EndpointId::parse("fal-ai/flux/dev").expect("a literal endpoint");
    for kib in [1, 256] {
        let body = json!({"prompt": "a cat", "num_images": 1, "image_url": "x".repeat(kib * 1024)}).to_string();
        bench.bench_function(&format!("check {kib} KiB of input"), |b| {
            b.iter(|| policies.apply(&endpoint, None, black_box(body.as_bytes())));
        });
    }
}

criterion_group!(benches, admit, rewrite, policy);
criterion_main!(benches);
