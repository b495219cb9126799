//! A backend that fails takes the jobs of its call, and nothing else.

use std::error::Error as _;
use std::sync::Arc;

use falgate::engine::{
    BackendError, Engine, EngineError, EngineMetrics, EngineSettings, EngineState, FakeBackend, FakeFault, FakePart,
    FakeSettings, Job, OpenError, Outcome,
};

use super::engine_support::{alone, batches_of, engine, job, painted, quick, result, within};

fn cause(error: &EngineError) -> &Arc<BackendError> {
    match error {
        EngineError::Backend { cause, .. } => cause,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_failed_call_fails_its_batch_with_one_cause_and_the_engine_goes_on() {
    for part in [FakePart::Embed, FakePart::Encode, FakePart::Step, FakePart::Decode] {
        let (engine, control) = engine(batches_of(2)).await;
        control.inject(part, 0, FakeFault::Fail);
        let tickets = [1, 2].map(|seed| engine.submit(job(seed)).unwrap());
        let [first, second] = tickets.map(result);
        let (first, second) = (first.await.unwrap_err(), second.await.unwrap_err());
        assert!(Arc::ptr_eq(cause(&first), cause(&second)), "{part:?}");
        assert!(matches!(first, EngineError::Backend { rows: 2, .. }), "{part:?}");
        assert!(first.source().unwrap().source().is_some(), "the runtime's words are kept");
        let tickets = [3, 4].map(|seed| engine.submit(job(seed)).unwrap());
        for ticket in tickets {
            painted(ticket).await;
        }
    }
}

#[tokio::test]
async fn the_nth_call_fails_and_the_next_job_does_not() {
    let (engine, control) = engine(quick()).await;
    control.inject(FakePart::Step, 2, FakeFault::OutOfMemory);
    let failed = result(engine.submit(job(1)).unwrap()).await.unwrap_err();
    assert!(matches!(&**cause(&failed), BackendError::OutOfMemory));
    assert_eq!(control.calls_of(FakePart::Step).len(), 3);
    painted(engine.submit(job(2)).unwrap()).await;
}

#[tokio::test]
async fn an_overflow_takes_only_the_picture_that_overflows() {
    let (engine, control) = engine(batches_of(2)).await;
    // The common call overflows, then the first row alone does.
    control.inject(FakePart::Decode, 0, FakeFault::NotFinite);
    control.inject(FakePart::Decode, 1, FakeFault::NotFinite);
    let tickets = [1, 2].map(|seed| engine.submit(job(seed)).unwrap());
    let [first, second] = tickets;
    let failed = result(first).await.unwrap_err();
    assert!(matches!(&**cause(&failed), BackendError::NotFinite { part: "vae_decoder", .. }));
    assert!(vec![painted(second).await] == alone(job(2)).await);
}

#[tokio::test]
async fn an_overflow_before_there_is_a_picture_takes_only_its_own_row_too() {
    for (part, named) in
        [(FakePart::Embed, "text_encoder"), (FakePart::Encode, "vae_encoder"), (FakePart::Step, "unet")]
    {
        let (engine, control) = engine(batches_of(2)).await;
        if part == FakePart::Step {
            // A step cannot be taken twice: the call itself says whose row it was.
            control.inject(part, 0, FakeFault::NotFiniteRow(0));
        } else {
            // The common call overflows, then the first row alone does.
            control.inject(part, 0, FakeFault::NotFinite);
            control.inject(part, 1, FakeFault::NotFinite);
        }
        let [first, second] = [1, 2].map(|seed| engine.submit(job(seed)).unwrap());
        let failed = result(first).await.unwrap_err();
        assert!(matches!(&**cause(&failed), BackendError::NotFinite { part, .. } if *part == named), "{part:?}");
        assert!(matches!(failed, EngineError::Backend { rows: 1, .. }), "{part:?}");
        assert!(vec![painted(second).await] == alone(job(2)).await, "{part:?}");
    }
}

#[tokio::test]
async fn a_panic_fails_the_batch_and_a_warm_up_brings_the_backend_back() {
    let (engine, control) = engine(batches_of(2)).await;
    control.inject(FakePart::Step, 0, FakeFault::Panic);
    let tickets = [1, 2].map(|seed| engine.submit(job(seed)).unwrap());
    for ticket in tickets {
        let failed = result(ticket).await.unwrap_err();
        assert!(matches!(&**cause(&failed), BackendError::Panicked { what } if what == "injected"));
    }
    let tickets = [3, 4].map(|seed| engine.submit(job(seed)).unwrap());
    for ticket in tickets {
        painted(ticket).await;
    }
    // One call that panicked, one of the warm-up, four of the second batch.
    assert_eq!(control.calls_of(FakePart::Step).len(), 6);
}

#[tokio::test]
async fn nothing_of_a_batch_is_trusted_after_a_panic() {
    let (engine, control) = engine(batches_of(2)).await;
    control.inject(FakePart::Decode, 0, FakeFault::Panic);
    let short = engine.submit(Job { steps: 1, ..job(1) }).unwrap();
    let long = engine.submit(job(2)).unwrap();
    let (short, long) = (result(short).await.unwrap_err(), result(long).await.unwrap_err());
    assert!(Arc::ptr_eq(cause(&short), cause(&long)));
}

#[tokio::test]
async fn a_backend_that_does_not_recover_from_a_panic_is_given_up() {
    let (engine, control) = engine(quick()).await;
    control.inject(FakePart::Step, 0, FakeFault::Panic);
    control.inject(FakePart::Encode, 1, FakeFault::Fail);
    control.hold(FakePart::Step);
    let running = engine.submit(job(1)).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    let waiting = engine.submit(job(2)).unwrap();
    control.release(FakePart::Step);
    assert!(matches!(result(running).await, Err(EngineError::Backend { .. })));
    assert!(matches!(result(waiting).await, Err(EngineError::Failed { .. })));
    assert!(matches!(engine.submit(job(3)), Err(EngineError::Failed { .. })));
    let state = engine.state();
    let EngineState::Failed(cause) = &*state.borrow() else { panic!("{state:?}") };
    assert!(matches!(&**cause, OpenError::Lost { .. }));
}

#[tokio::test]
async fn outcomes_and_phases_are_counted() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = EngineMetrics::register(&mut registry);
    let (opened, control) = FakeBackend::open(FakeSettings::default());
    let settings = EngineSettings { queue: 1.try_into().unwrap(), ..quick() };
    let engine = Engine::start_measured(settings, metrics.clone(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    painted(engine.submit(job(1)).unwrap()).await;
    control.hold(FakePart::Step);
    let running = engine.submit(job(2)).unwrap();
    within(control.called(FakePart::Step, 6)).await;
    let waiting = engine.submit(job(3)).unwrap();
    assert_eq!(metrics.waiting(), 1);
    engine.submit(job(4)).unwrap_err();
    engine.submit(Job { steps: 0, ..job(5) }).unwrap_err();
    drop(waiting);
    assert_eq!(metrics.waiting(), 0);
    control.inject(FakePart::Decode, 0, FakeFault::Fail);
    control.release(FakePart::Step);
    result(running).await.unwrap_err();
    engine.close();
    within(engine.ended()).await;
    let counted = [Outcome::Done, Outcome::Cancelled, Outcome::Full, Outcome::Unfit, Outcome::Failed];
    assert_eq!(counted.map(|outcome| metrics.jobs(outcome)), [1; 5]);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "falgate_engine_queue_jobs 0",
        "falgate_engine_jobs_total{outcome=\"done\"} 1",
        "falgate_engine_phase_seconds_count{phase=\"steps\"} 1",
        "falgate_engine_call_rows_count 8",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_backend_that_panicked_is_not_called_again_before_its_warm_up() {
    let (engine, control) = engine(batches_of(2)).await;
    // The common call overflows, and the first row alone panics: the second one is not tried.
    control.inject(FakePart::Decode, 0, FakeFault::NotFinite);
    control.inject(FakePart::Decode, 1, FakeFault::Panic);
    let tickets = [1, 2].map(|seed| engine.submit(job(seed)).unwrap());
    for ticket in tickets {
        result(ticket).await.unwrap_err();
    }
    let tickets = [3, 4].map(|seed| engine.submit(job(seed)).unwrap());
    for ticket in tickets {
        painted(ticket).await;
    }
    let decodes: Vec<usize> = control.calls_of(FakePart::Decode).iter().map(|call| call.rows).collect();
    assert_eq!(decodes, [2, 1, 1, 2]);
}

#[tokio::test]
async fn a_panic_over_a_newcomers_prompt_ends_the_rows_that_were_to_begin_with_it() {
    let two = EngineSettings { max_batch: 2.try_into().unwrap(), ..quick() };
    let (engine, control) = engine(two).await;
    control.inject(FakePart::Embed, 1, FakeFault::Panic);
    control.hold(FakePart::Step);
    let begun = engine.submit(Job { seeds: vec![1, 2, 3], steps: 1, ..job(1) }).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    let newcomer = engine.submit(job(9)).unwrap();
    control.release(FakePart::Step);
    for ticket in [begun, newcomer] {
        let failed = result(ticket).await.unwrap_err();
        assert!(matches!(&**cause(&failed), BackendError::Panicked { .. }));
    }
    painted(engine.submit(job(10)).unwrap()).await;
    let parts: Vec<FakePart> = control.calls().iter().map(|call| call.part).collect();
    let panicked = parts.iter().enumerate().filter(|(_, part)| **part == FakePart::Embed).nth(1).unwrap().0;
    assert_eq!(parts[panicked + 1], FakePart::Embed, "the warm-up, not an encode: {parts:?}");
}
