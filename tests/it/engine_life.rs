//! An engine's life: loading, serving, closing, and the ways in which it fails to begin.

use std::sync::mpsc;
use std::time::Duration;

use falgate::engine::{
    Engine, EngineError, EngineState, FakeBackend, FakeFault, FakePart, FakeSettings, ModelFacts, OpenError,
    PartProgress, Prediction, ScheduleFacts,
};

use super::engine_support::{engine, job, painted, quick, result, within};

#[tokio::test]
async fn loading_shows_its_progress_and_refuses_jobs() {
    let (go, wait) = mpsc::channel::<()>();
    let engine = Engine::start(quick(), move |progress| {
        progress.begin("unet", 3_000);
        wait.recv().unwrap();
        progress.done("unet", 3_000, Duration::from_secs(1));
        Ok(FakeBackend::open(FakeSettings::default()).0)
    });
    let mut state = engine.state();
    let begun = PartProgress { part: "unet".into(), bytes: 3_000, took: None };
    let loading =
        |state: &EngineState| matches!(state, EngineState::Loading { progress: Some(part) } if *part == begun);
    within(state.wait_for(loading)).await.unwrap();
    assert!(engine.facts().is_none());
    assert!(matches!(engine.submit(job(1)), Err(EngineError::Loading)));
    go.send(()).unwrap();
    let facts: std::sync::Arc<ModelFacts> = within(engine.ready()).await.unwrap();
    assert_eq!(Some(facts), engine.facts());
    painted(engine.submit(job(1)).unwrap()).await;
}

#[tokio::test]
async fn a_model_is_warmed_up_before_it_is_ready() {
    let (opened, control) = FakeBackend::open(FakeSettings::default());
    let engine = Engine::start(quick(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    let parts: Vec<FakePart> = control.calls().iter().map(|call| call.part).collect();
    assert_eq!(parts, [FakePart::Embed, FakePart::Encode, FakePart::Step, FakePart::Decode]);
}

async fn failure(engine: &Engine) -> std::sync::Arc<OpenError> {
    let EngineError::Failed { cause } = within(engine.ready()).await.unwrap_err() else { panic!("not failed") };
    assert!(matches!(engine.submit(job(1)), Err(EngineError::Failed { .. })));
    cause
}

#[tokio::test]
async fn a_model_that_cannot_be_opened_is_a_reason_and_no_hang() {
    let engine = Engine::start(quick(), |_| {
        Err(OpenError::Model { what: "unet is missing".to_owned(), source: "no such file".into() })
    });
    assert_eq!(failure(&engine).await.to_string(), "model cannot be opened: unet is missing");
}

#[tokio::test]
async fn a_panic_while_opening_is_a_reason_and_no_hang() {
    let engine = Engine::start(quick(), |_| panic!("bad model"));
    assert!(matches!(&*failure(&engine).await, OpenError::Panicked { what } if what == "bad model"));
}

#[tokio::test]
async fn a_failed_warm_up_is_a_failed_start() {
    let (opened, control) = FakeBackend::open(FakeSettings::default());
    control.inject(FakePart::Decode, 0, FakeFault::NotFinite);
    let engine = Engine::start(quick(), |_| Ok(opened));
    assert!(matches!(&*failure(&engine).await, OpenError::WarmUp { .. }));
}

#[tokio::test]
async fn a_closed_engine_finishes_what_it_accepted() {
    let (engine, control) = engine(quick()).await;
    control.hold(FakePart::Step);
    let running = engine.submit(job(1)).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    let waiting = engine.submit(job(2)).unwrap();
    engine.close();
    assert!(matches!(engine.submit(job(3)), Err(EngineError::Closed)));
    control.release(FakePart::Step);
    painted(running).await;
    painted(waiting).await;
    within(engine.ended()).await;
    assert!(matches!(*engine.state().borrow(), EngineState::Stopped));
    assert!(matches!(within(engine.ready()).await, Err(EngineError::Closed)));
}

#[tokio::test]
async fn an_engine_closes_with_its_last_handle() {
    let (first, control) = engine(quick()).await;
    let second = first.clone();
    drop(first);
    control.hold(FakePart::Step);
    let running = second.submit(job(1)).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    let mut state = second.state();
    drop(second);
    control.release(FakePart::Step);
    painted(running).await;
    // The sender goes with the thread: either its last word is seen, or its end.
    let _ = within(state.wait_for(|state| matches!(state, EngineState::Stopped))).await;
    assert!(matches!(*state.borrow(), EngineState::Stopped));
}

#[tokio::test]
async fn closing_while_loading_ends_the_engine_without_a_job() {
    let (go, wait) = mpsc::channel::<()>();
    let engine = Engine::start(quick(), move |_| {
        wait.recv().unwrap();
        Ok(FakeBackend::open(FakeSettings::default()).0)
    });
    engine.close();
    go.send(()).unwrap();
    within(engine.ended()).await;
    assert!(matches!(engine.submit(job(1)), Err(EngineError::Closed)));
}

#[tokio::test]
async fn every_kind_of_prediction_and_a_model_without_guidance_are_served() {
    let plain = FakeSettings::default().facts;
    let kinds = [Prediction::Epsilon, Prediction::Velocity, Prediction::Sample];
    let of_kind = |prediction| ScheduleFacts { prediction, ..ScheduleFacts::default() };
    let facts = kinds.map(|kind| ModelFacts { schedule: of_kind(kind), ..plain.clone() });
    for facts in facts.into_iter().chain([ModelFacts { guidance_width: None, ..plain.clone() }]) {
        let (opened, _control) = FakeBackend::open(FakeSettings { facts, ..FakeSettings::default() });
        let engine = Engine::start(quick(), |_| Ok(opened));
        within(engine.ready()).await.unwrap();
        painted(engine.submit(job(1)).unwrap()).await;
    }
}

#[tokio::test]
async fn timings_say_where_the_time_went() {
    let cost = Duration::from_millis(2);
    let costs = FakeSettings { embed: cost, encode: cost, step: cost, decode: cost, ..FakeSettings::default() };
    let (opened, control) = FakeBackend::open(costs);
    let engine = Engine::start(quick(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    control.hold(FakePart::Embed);
    let first = engine.submit(job(1)).unwrap();
    within(control.called(FakePart::Embed, 2)).await;
    let second = engine.submit(job(2)).unwrap();
    control.release(FakePart::Embed);
    let first = result(first).await.unwrap().timings;
    let second = result(second).await.unwrap().timings;
    assert!(first.encode >= 2 * cost && first.steps >= 4 * cost && first.decode >= cost, "{first:?}");
    // It joins after the first step of the other one: the rest of the text, the encoding, the step.
    assert!(second.queued >= 3 * cost, "{second:?}");
    assert_eq!(second.inference(), second.encode + second.steps + second.decode);
}
