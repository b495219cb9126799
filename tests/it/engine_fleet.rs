//! Several devices: who runs what, and what becomes of the jobs of one that fails.

use std::time::Duration;

use falgate::engine::{
    BackendError, Engine, EngineError, EngineMetrics, EngineSettings, EngineState, FakeBackend, FakeControl, FakeFault,
    FakePart, FakeSettings, Job, Lane, OpenError, Opener, Order,
};

use super::engine_support::{alone, batches_of, engine, job, painted, quick, result, within};

/// An engine on so many fakes, ready, with the warm-ups' calls forgotten.
async fn fleet(devices: usize, settings: EngineSettings) -> (Engine, Vec<FakeControl>, EngineMetrics) {
    let (openers, controls): (Vec<Opener>, Vec<FakeControl>) = (0..devices)
        .map(|_| {
            let (opened, control) = FakeBackend::open(FakeSettings::default());
            let opener: Opener = Box::new(|_| Ok(opened));
            (opener, control)
        })
        .unzip();
    let metrics = EngineMetrics::unregistered();
    let engine = Engine::start_on(settings, metrics.clone(), openers);
    within(engine.ready()).await.unwrap();
    controls.iter().for_each(FakeControl::clear);
    (engine, controls, metrics)
}

fn steps(control: &FakeControl) -> usize {
    control.calls_of(FakePart::Step).len()
}

#[tokio::test]
async fn a_job_goes_to_the_device_on_which_it_is_done_soonest() {
    let (engine, controls, _) = fleet(2, quick()).await;
    controls.iter().for_each(|control| control.hold(FakePart::Step));
    let first = engine.submit(job(1)).unwrap();
    within(controls[0].called(FakePart::Step, 1)).await;
    let second = engine.submit(job(2)).unwrap();
    within(controls[1].called(FakePart::Step, 1)).await;
    controls.iter().for_each(|control| control.release(FakePart::Step));
    for (ticket, seed) in [(first, 1), (second, 2)] {
        assert!(vec![painted(ticket).await] == alone(job(seed)).await);
    }
    assert_eq!((steps(&controls[0]), steps(&controls[1])), (4, 4));
}

#[tokio::test]
async fn a_crowd_is_spread_over_the_devices() {
    let (engine, controls, metrics) = fleet(3, quick()).await;
    controls.iter().for_each(|control| control.hold(FakePart::Encode));
    let tickets: Vec<_> = (0..24).map(|seed| engine.submit(job(seed)).unwrap()).collect();
    controls.iter().for_each(|control| control.release(FakePart::Encode));
    for ticket in tickets {
        painted(ticket).await;
    }
    let rows =
        controls.iter().map(|control| control.calls_of(FakePart::Decode).iter().map(|call| call.rows).sum::<usize>());
    let rows: Vec<usize> = rows.collect();
    assert!(rows.iter().sum::<usize>() == 24 && rows.iter().all(|rows| *rows >= 4), "{rows:?}");
    assert_eq!(metrics.waiting(), 0);
}

#[tokio::test]
async fn where_one_queue_is_full_the_next_one_is_asked() {
    let (engine, controls, _) =
        fleet(2, EngineSettings { queue: 1.try_into().unwrap(), max_batch: 1.try_into().unwrap(), ..quick() }).await;
    controls.iter().for_each(|control| control.hold(FakePart::Step));
    let mut tickets = Vec::new();
    for (seed, control) in controls.iter().enumerate() {
        tickets.push(engine.submit(job(seed as u64)).unwrap());
        within(control.called(FakePart::Step, 1)).await;
    }
    tickets.extend([3, 4].map(|seed| engine.submit(job(seed)).unwrap()));
    assert!(matches!(engine.submit(job(5)), Err(EngineError::Full { limit: 1 })));
    controls.iter().for_each(|control| control.release(FakePart::Step));
    for ticket in tickets {
        painted(ticket).await;
    }
}

#[tokio::test]
async fn a_newer_job_ends_an_older_one_of_its_lane_on_another_device() {
    let (engine, controls, _) = fleet(2, quick()).await;
    let lane = Lane::new();
    let stroke = |seed| Job { lane, order: Order::Supersedes, ..job(seed) };
    controls.iter().for_each(|control| control.hold(FakePart::Step));
    let older = engine.submit(stroke(1)).unwrap();
    within(controls[0].called(FakePart::Step, 1)).await;
    let newer = engine.submit(stroke(2)).unwrap();
    within(controls[1].called(FakePart::Step, 1)).await;
    controls.iter().for_each(|control| control.release(FakePart::Step));
    assert!(matches!(result(older).await, Err(EngineError::Superseded)));
    painted(newer).await;
}

#[tokio::test]
async fn a_device_that_is_lost_is_taken_out_and_its_jobs_run_again_elsewhere() {
    for fault in [FakeFault::Fail, FakeFault::Panic] {
        let (engine, controls, metrics) = fleet(2, quick()).await;
        controls.iter().for_each(|control| control.hold(FakePart::Step));
        let tickets = [1, 2].map(|seed| engine.submit(job(seed)).unwrap());
        for control in &controls {
            within(control.called(FakePart::Step, 1)).await;
        }
        let waiting: Vec<_> = (3..7).map(|seed| engine.submit(job(seed)).unwrap()).collect();
        // Its step fails, and so does its warm-up.
        controls[0].inject(FakePart::Step, 0, fault);
        controls[0].inject(FakePart::Step, 0, FakeFault::Fail);
        controls.iter().for_each(|control| control.release(FakePart::Step));
        for (ticket, seed) in tickets.into_iter().chain(waiting).zip(1..) {
            assert!(vec![painted(ticket).await] == alone(job(seed)).await, "{fault:?}, job {seed}");
        }
        assert!(matches!(*engine.state().borrow(), EngineState::Ready), "one device serves on");
        assert!(metrics.jobs_again() >= 1);
        let before = steps(&controls[0]);
        painted(engine.submit(job(8)).unwrap()).await;
        assert_eq!(steps(&controls[0]), before, "a lost device gets no more jobs");
    }
}

#[tokio::test]
async fn a_device_that_passes_its_warm_up_serves_on_and_the_failed_job_runs_elsewhere() {
    let (engine, controls, metrics) = fleet(2, quick()).await;
    controls[0].inject(FakePart::Step, 1, FakeFault::Fail);
    assert!(vec![painted(engine.submit(job(1)).unwrap()).await] == alone(job(1)).await);
    assert_eq!(metrics.jobs_again(), 1);
    assert_eq!(steps(&controls[1]), 4, "from its beginning");
    controls[1].hold(FakePart::Embed);
    let tickets = [2, 3].map(|seed| engine.submit(job(seed)).unwrap());
    within(controls[0].called(FakePart::Step, 4)).await;
    controls[1].release(FakePart::Embed);
    for ticket in tickets {
        painted(ticket).await;
    }
}

#[tokio::test]
async fn a_job_that_fails_on_two_devices_fails_clearly() {
    let (engine, controls, metrics) = fleet(3, quick()).await;
    controls.iter().for_each(|control| control.inject(FakePart::Step, 0, FakeFault::Panic));
    let failed = result(engine.submit(job(1)).unwrap()).await.unwrap_err();
    let EngineError::Backend { cause, .. } = &failed else { panic!("{failed}") };
    assert!(matches!(&**cause, BackendError::Panicked { .. }));
    assert_eq!(metrics.jobs_again(), 1);
    painted(engine.submit(job(2)).unwrap()).await;
}

#[tokio::test]
async fn an_overflow_is_the_rows_own_and_does_not_run_again() {
    let (engine, controls, metrics) = fleet(2, quick()).await;
    controls[0].inject(FakePart::Decode, 0, FakeFault::NotFinite);
    assert!(matches!(result(engine.submit(job(1)).unwrap()).await, Err(EngineError::Backend { .. })));
    assert_eq!((metrics.jobs_again(), steps(&controls[1])), (0, 0));
}

#[tokio::test]
async fn when_the_last_device_is_lost_the_engine_has_failed() {
    let (engine, controls, _) = fleet(2, quick()).await;
    for control in &controls {
        control.inject(FakePart::Step, 0, FakeFault::Fail);
        control.inject(FakePart::Step, 0, FakeFault::Fail);
    }
    let failed = result(engine.submit(job(1)).unwrap()).await.unwrap_err();
    assert!(matches!(failed, EngineError::Backend { .. } | EngineError::Failed { .. }), "{failed}");
    within(engine.ended()).await;
    assert!(
        matches!(&*engine.state().borrow(), EngineState::Failed(cause) if matches!(**cause, OpenError::Lost { .. }))
    );
    assert!(matches!(engine.submit(job(2)), Err(EngineError::Failed { .. })));
}

#[tokio::test]
async fn a_device_that_cannot_be_had_at_the_start_is_no_start() {
    let (opened, _control) = FakeBackend::open(FakeSettings::default());
    let refused: Opener = Box::new(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Err(OpenError::Model { what: "no such device".to_owned(), source: "none".into() })
    });
    let openers: Vec<Opener> = vec![Box::new(|_| Ok(opened)), refused];
    let engine = Engine::start_on(quick(), EngineMetrics::unregistered(), openers);
    assert!(matches!(within(engine.ready()).await, Err(EngineError::Failed { .. })));
    within(engine.ended()).await;
    assert!(matches!(engine.submit(job(1)), Err(EngineError::Failed { .. })));
}

#[tokio::test]
async fn a_closed_engine_finishes_what_its_devices_have() {
    let (engine, controls, _) = fleet(2, quick()).await;
    controls.iter().for_each(|control| control.hold(FakePart::Step));
    let tickets: Vec<_> = (0..4).map(|seed| engine.submit(job(seed)).unwrap()).collect();
    engine.close();
    assert!(matches!(engine.submit(job(9)), Err(EngineError::Closed)));
    controls.iter().for_each(|control| control.release(FakePart::Step));
    for ticket in tickets {
        painted(ticket).await;
    }
    within(engine.ended()).await;
    assert!(matches!(*engine.state().borrow(), EngineState::Stopped));
}

#[tokio::test]
async fn memory_that_runs_short_makes_calls_smaller_and_fails_nobody() {
    for part in [FakePart::Encode, FakePart::Step, FakePart::Decode] {
        let (engine, control) = engine(batches_of(4)).await;
        control.inject(part, 0, FakeFault::OutOfMemory);
        let tickets = [1, 2, 3, 4].map(|seed| engine.submit(job(seed)).unwrap());
        for (ticket, seed) in tickets.into_iter().zip(1..) {
            assert!(vec![painted(ticket).await] == alone(job(seed)).await, "{part:?}, job {seed}");
        }
        let calls = control.calls_of(part);
        let (first, later) = calls.split_first().unwrap();
        assert_eq!(first.rows, 4, "{part:?}");
        assert!(later.iter().all(|call| call.rows <= 2), "{part:?}: {later:?}");
        assert_eq!(later.iter().map(|call| call.rows).sum::<usize>(), if part == FakePart::Step { 16 } else { 4 });
    }
}

#[tokio::test]
async fn a_device_without_memory_for_a_warm_up_is_not_lost() {
    let (engine, control) = engine(quick()).await;
    control.inject(FakePart::Step, 0, FakeFault::Fail);
    control.inject(FakePart::Step, 0, FakeFault::OutOfMemory);
    assert!(result(engine.submit(job(1)).unwrap()).await.is_err());
    painted(engine.submit(job(2)).unwrap()).await;
}

#[tokio::test]
async fn one_picture_that_does_not_fit_into_memory_fails_with_that() {
    let (engine, control) = engine(quick()).await;
    control.inject(FakePart::Encode, 0, FakeFault::OutOfMemory);
    let failed = result(engine.submit(job(1)).unwrap()).await.unwrap_err();
    assert!(matches!(&failed, EngineError::Backend { cause, .. } if matches!(**cause, BackendError::OutOfMemory)));
    painted(engine.submit(job(2)).unwrap()).await;
}
