//! What the engine's tests share: recorded values, jobs, and an engine over a fake backend.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use falgate::engine::{
    Done, Engine, EngineError, EngineSettings, FakeBackend, FakeControl, FakeSettings, Job, Lane, Order, Picture,
    Posterior, SafetyCheck, Ticket,
};
use safetensors::SafeTensors;

fn golden_file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// The recorded parameters.
pub(crate) fn document() -> &'static serde_json::Value {
    static DOCUMENT: OnceLock<serde_json::Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::from_slice(&golden_file("golden.json")).unwrap())
}

/// A recorded tensor.
pub(crate) fn recorded(name: &str) -> Vec<f32> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let tensors = SafeTensors::deserialize(BYTES.get_or_init(|| golden_file("golden.safetensors"))).unwrap();
    let tensor = tensors.tensor(name).unwrap_or_else(|_| panic!("no tensor {name}"));
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
    tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

/// The largest difference between two tensors.
pub(crate) fn deviation(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len());
    let differences = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    differences.fold(0.0, |worst, next| if next > worst || next.is_nan() { next } else { worst })
}

/// A picture of one size whose content depends on `shade`.
pub(crate) fn picture(width: u32, height: u32, shade: u8) -> Picture {
    let bytes = (0..width * height * 3).map(|i| (i / 97) as u8 ^ shade).collect();
    Picture::new(width, height, bytes).unwrap()
}

/// A small job; tests change what they are about.
pub(crate) fn job(seed: u64) -> Job {
    Job {
        picture: picture(64, 64, seed as u8),
        prompt: format!("prompt {seed}"),
        strength: 0.5,
        steps: 4,
        guidance_scale: 8.0,
        seeds: vec![seed],
        posterior: Posterior::Sample,
        start_by: None,
        lane: Lane::new(),
        order: Order::InTurn,
        safety: SafetyCheck::Skipped,
    }
}

/// Settings with a batch of this many rows, which is waited for until it is full.
pub(crate) fn batches_of(rows: usize) -> EngineSettings {
    EngineSettings { max_batch: NonZeroUsize::new(rows).unwrap(), linger_ms: 600_000, ..quick() }
}

/// Settings without linger and with a small warm-up.
pub(crate) fn quick() -> EngineSettings {
    EngineSettings { linger_ms: 0, warm_up_px: 64.try_into().unwrap(), ..EngineSettings::default() }
}

/// An engine over a fake backend, ready, with the warm-up's calls forgotten.
pub(crate) async fn engine(settings: EngineSettings) -> (Engine, FakeControl) {
    let (opened, control) = FakeBackend::open(FakeSettings::default());
    let engine = Engine::start(settings, |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    control.clear();
    (engine, control)
}

/// A ticket's result.
pub(crate) async fn result(ticket: Ticket) -> Result<Done, EngineError> {
    within(ticket).await
}

/// A ticket's only picture.
pub(crate) async fn painted(ticket: Ticket) -> Picture {
    let mut done = result(ticket).await.unwrap();
    assert_eq!(done.pictures.len(), 1);
    done.pictures.remove(0)
}

/// What a job gives when it runs alone.
pub(crate) async fn alone(job: Job) -> Vec<Picture> {
    let (engine, _control) = engine(quick()).await;
    result(engine.submit(job).unwrap()).await.unwrap().pictures
}

/// Waits, but not for ever: a test that would hang fails.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("comes to an end")
}
