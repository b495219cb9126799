//! Runs that cannot start in time, by what the work before them costs.

use std::time::Duration;

use falgate::engine::{Engine, EngineSettings, FakeBackend, FakePart, FakeSettings, Job};
use falgate::host::{HostService, HostSettings};
use falgate::wire::HostClass;
use http::Method;
use tower::ServiceExt as _;

use crate::engine_support::{job, painted, quick};
use crate::host_desk::{APP, Answer, call, input};

#[tokio::test]
async fn a_run_that_would_start_too_late_is_a_429_at_once() {
    let step = Duration::from_millis(300);
    let (opened, control) = FakeBackend::open(FakeSettings { step, ..FakeSettings::default() });
    let one = EngineSettings { max_batch: 1.try_into().unwrap(), ..quick() };
    let engine = Engine::start(one, move |_| Ok(opened));
    engine.ready().await.unwrap();
    for seed in 0..3 {
        painted(engine.submit(Job { steps: 1, ..job(seed) }).unwrap()).await;
    }
    control.clear();
    control.hold(FakePart::Step);
    let running = engine.submit(Job { steps: 50, strength: 1.0, ..job(1) }).unwrap();
    control.called(FakePart::Step, 1).await;
    let mut request = call(HostClass::Run, &Method::POST, APP, input().to_string());
    // Fifteen seconds of steps lie before it.
    request.headers_mut().insert("x-fal-request-start-timeout", "10".parse().unwrap());
    let host = HostService::new(engine, HostSettings::default()).unwrap();
    let answer = Answer::read(host.oneshot(request).await.unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-fal-needs-retry")), (429, "true"), "{answer:?}");
    assert!(!answer.header("retry-after").is_empty());
    assert_eq!(control.calls_of(FakePart::Encode).len(), 1);
    drop(running);
    control.release(FakePart::Step);
}
