//! What sockets cost in pure code: walking frames that are passed on. `cargo bench --bench sockets`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use falgate::wire::frame::{FrameLimits, FrameSender, FrameWalker, Opcode, apply_mask, write_frame};

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

criterion_group!(benches, frames);
criterion_main!(benches);
