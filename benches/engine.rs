//! What the host does for a picture beside the model: schedule, guidance, noise, and the way through the queue.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use falgate::engine::simulation::{Crowd, Device, Policy, simulate};
use falgate::engine::{
    Costs, Engine, EngineSettings, FakeBackend, FakeSettings, Job, Lane, Order, Phase, Picture, Posterior, SafetyCheck,
    Schedule, ScheduleFacts, TorchNoise, guidance_embedding,
};

/// Latent values of a picture of 512 by 512 pixels.
const LATENTS: usize = 4 * 64 * 64;

fn schedule(criterion: &mut Criterion) {
    let facts = ScheduleFacts::default();
    let schedule = Schedule::new(&facts).expect("the default schedule exists");
    criterion.bench_function("schedule/table", |bench| bench.iter(|| Schedule::new(black_box(&facts))));
    criterion.bench_function("schedule/plan of 4 steps", |bench| {
        bench.iter(|| schedule.plan(black_box(4), black_box(0.5)));
    });
}

fn guidance(criterion: &mut Criterion) {
    criterion
        .bench_function("guidance/embedding of 256", |bench| bench.iter(|| guidance_embedding(black_box(8.0), 256)));
}

fn noise(criterion: &mut Criterion) {
    criterion.bench_function("noise/seeding", |bench| bench.iter(|| TorchNoise::new(black_box(42))));
    let mut group = criterion.benchmark_group("noise");
    group.throughput(Throughput::Elements(LATENTS as u64));
    let mut generator = TorchNoise::new(42);
    let mut values = vec![0.0; LATENTS];
    group.bench_function("latents of 512x512", |bench| bench.iter(|| generator.fill(black_box(&mut values))));
    group.finish();
}

fn queue(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a plain runtime");
    let settings = EngineSettings {
        linger_ms: 0,
        warm_up_px: 64.try_into().expect("64 is not zero"),
        ..EngineSettings::default()
    };
    let engine = Engine::start(settings, |_| Ok(FakeBackend::open(FakeSettings::default()).0));
    runtime.block_on(engine.ready()).expect("a fake always loads");
    let job = Job {
        picture: Picture::new(64, 64, vec![128; 64 * 64 * 3]).expect("that length"),
        prompt: "the same".to_owned(),
        strength: 0.5,
        steps: 1,
        guidance_scale: 8.0,
        seeds: vec![1],
        posterior: Posterior::Mode,
        start_by: None,
        lane: Lane::new(),
        order: Order::InTurn,
        safety: SafetyCheck::Skipped,
    };
    criterion.bench_function("queue/one job of 64x64 there and back", |bench| {
        bench.iter(|| {
            let ticket = engine.submit(job.clone()).expect("the queue is empty");
            runtime.block_on(ticket).expect("a fake does not fail")
        });
    });
}

/// What deciding costs: a simulated second of 64 painters is some 250 calls of the device, and each is decided over 64 jobs.
fn decisions(criterion: &mut Criterion) {
    let mut costs = Costs::default();
    for (phase, ms) in [(Phase::Encode, 1), (Phase::Step, 4), (Phase::Decode, 1)] {
        (0..3).for_each(|_| costs.note(phase, ((512, 512), 1), Duration::from_millis(ms)));
    }
    let device = Device { costs, rows: 8, size: (512, 512) };
    let crowd = Crowd { painters: 64, span: Duration::from_secs(1), ..Crowd::default() };
    criterion.bench_function("plan/a second of 64 painters", |bench| {
        bench.iter(|| simulate(black_box(&crowd), &device, Policy::Steps));
    });
}

criterion_group!(benches, schedule, guidance, noise, queue, decisions);
criterion_main!(benches);
