//! What sockets cost in pure code: walking frames that are passed on, reading inputs, writing results.
//! `cargo bench --bench sockets`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use falgate::wire::frame::{FrameLimits, FrameSender, FrameWalker, Opcode, apply_mask, write_frame};
use falgate::wire::message::{Dialect, PictureForm, SocketInput, SocketOutput, SocketPicture};
use falgate::wire::{PictureFormat, RunTimings};
use serde_json::json;

/// Bytes that a tunnel reads at once.
const PIECE: usize = 64 * 1024;
const LIMITS: FrameLimits = FrameLimits { frame_bytes: 1 << 24, message_bytes: 1 << 24, fragments: 1000 };

/// Walks a stream in pieces, as a tunnel does, and counts its frames' bytes.
fn walk(stream: &[u8]) -> usize {
    let mut walker = FrameWalker::new(FrameSender::Client, LIMITS);
    let (mut begin, mut end, mut walked) = (0, 0, 0);
    while end < stream.len() {
        end = stream.len().min(end + PIECE);
        while let Ok(Some(step)) = walker.step(&stream[begin..end]) {
            begin += step.bytes;
            walked += step.bytes;
        }
    }
    walked
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("walk");
    for bytes in [128, 64 * 1024, 1024 * 1024] {
        let mut stream = Vec::new();
        for _ in 0..(1024 * 1024 / bytes) {
            write_frame(&mut stream, Opcode::Binary, &vec![7; bytes], Some([1, 2, 3, 4]));
        }
        assert_eq!(walk(&stream), stream.len(), "the stream is walked to its end");
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_with_input(BenchmarkId::new("messages", bytes), &stream, |bencher, stream| {
            bencher.iter(|| walk(black_box(stream)));
        });
    }
    group.finish();
    let mut payload = vec![7; PIECE];
    let mut group = criterion.benchmark_group("mask");
    group.throughput(Throughput::Bytes(PIECE as u64));
    group.bench_function("64 KiB", |bencher| bencher.iter(|| apply_mask(black_box(&mut payload), [1, 2, 3, 4], 1)));
    group.finish();
}

/// Bytes of a 512 by 512 drawing as JPEG, more or less.
const PICTURE: usize = 40 * 1024;

fn inputs(criterion: &mut Criterion) {
    let uri = format!("data:image/jpeg;base64,{}", "QUJD".repeat(PICTURE / 3));
    let text = json!({
        "prompt": "a lighthouse", "image_url": uri, "strength": 0.65, "seed": 42, "sync_mode": true, "request_id": "7",
    });
    let text = text.to_string().into_bytes();
    let word = |word: &str| rmpv::Value::from(word);
    let map = rmpv::Value::Map(vec![
        (word("prompt"), word("a lighthouse")),
        (word("image_bytes"), rmpv::Value::Binary(vec![7; PICTURE])),
        (word("strength"), rmpv::Value::from(0.65)),
        (word("seed"), rmpv::Value::from(42)),
        (word("request_id"), word("7")),
    ]);
    let mut binary = Vec::new();
    rmpv::encode::write_value(&mut binary, &map).expect("a Vec takes everything");
    let binary = Bytes::from(binary);
    let read = |input: Result<SocketInput, _>| input.map_err(|_| ()).and_then(|input| input.check().map_err(|_| ()));
    assert!(read(SocketInput::from_text(&text)).is_ok() && read(SocketInput::from_binary(&binary)).is_ok());

    let mut group = criterion.benchmark_group("input");
    group.throughput(Throughput::Bytes(PICTURE as u64));
    group.bench_function("text", |bencher| bencher.iter(|| read(SocketInput::from_text(black_box(&text)))));
    group.bench_function("msgpack", |bencher| bencher.iter(|| read(SocketInput::from_binary(black_box(&binary)))));
    group.finish();
}

fn results(criterion: &mut Criterion) {
    let picture = || SocketPicture { bytes: vec![7; PICTURE], width: 512, height: 512, format: PictureFormat::Jpeg };
    let timings = RunTimings { inference: 0.02, decode: 0.002, queue: 0.001, encode: 0.003, total: 0.026 };
    let output = || SocketOutput {
        pictures: vec![picture()],
        flagged: vec![false],
        warning: None,
        timings,
        seed: 42.into(),
        num_inference_steps: 4,
        request_id: "7".to_owned(),
        has_old_field: false,
    };
    let mut group = criterion.benchmark_group("result");
    group.throughput(Throughput::Bytes(PICTURE as u64));
    for (name, dialect, form) in [
        ("text", Dialect::Text, PictureForm::Url),
        ("msgpack, content", Dialect::Binary, PictureForm::Content),
        ("msgpack, url", Dialect::Binary, PictureForm::Url),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(output, |output| output.write(dialect, form), BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, frames, inputs, results);
criterion_main!(benches);
