//! The safety checker in the engine: who asked is checked, what is flagged is black, and nothing passes without a verdict.

use falgate::engine::{
    BackendError, Done, Engine, EngineError, EngineMetrics, EngineSettings, FakeBackend, FakeControl, FakeFault,
    FakePart, FakeSettings, Job, Picture, SafetyCheck, Verdict,
};

use super::engine_support::{alone, batches_of, job, quick, result, within};

/// A device whose checker flags what is brighter than grey.
fn strict() -> FakeSettings {
    FakeSettings::default().with_checker(128)
}

async fn engine(settings: EngineSettings) -> (Engine, FakeControl, EngineMetrics) {
    let (opened, control) = FakeBackend::open(strict());
    let metrics = EngineMetrics::unregistered();
    let engine = Engine::start_measured(settings, metrics.clone(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    assert_eq!(control.calls_of(FakePart::Check).len(), 1, "the warm-up goes through the checker too");
    control.clear();
    (engine, control, metrics)
}

/// A job of one level of grey, which its picture about keeps.
fn grey(level: u8, (width, height): (u32, u32), safety: SafetyCheck) -> Job {
    let picture = Picture::new(width, height, vec![level; (width * height * 3) as usize]).unwrap();
    Job { picture, safety, ..job(u64::from(level)) }
}

fn bright(safety: SafetyCheck) -> Job {
    grey(250, (64, 64), safety)
}

fn dark(safety: SafetyCheck) -> Job {
    grey(5, (64, 64), safety)
}

fn is_black(picture: &Picture) -> bool {
    picture.rgb().iter().all(|byte| *byte == 0)
}

#[tokio::test]
async fn in_one_batch_flagged_pictures_are_black_and_all_others_are_what_they_are_alone() {
    let (engine, control, metrics) = engine(batches_of(4)).await;
    let (wanted, skipped) = (SafetyCheck::Wanted, SafetyCheck::Skipped);
    let jobs = [bright(wanted), dark(wanted), bright(skipped), dark(skipped)];
    let tickets = jobs.clone().map(|job| engine.submit(job).unwrap());
    let mut done: Vec<Done> = Vec::new();
    for ticket in tickets {
        done.push(result(ticket).await.unwrap());
    }
    assert_eq!(control.calls_of(FakePart::Decode)[0].rows, 4, "all four shared their calls");
    let checked: Vec<usize> = control.calls_of(FakePart::Check).iter().map(|call| call.rows).collect();
    assert_eq!(checked, [2], "those who asked, in one call");
    let flagged: Vec<&[bool]> = done.iter().map(|done| done.flagged.as_slice()).collect();
    assert_eq!(flagged, [[true], [false], [false], [false]]);
    assert!(is_black(&done[0].pictures[0]));
    for (done, job) in done.iter().zip(jobs).skip(1) {
        assert!(!is_black(&done.pictures[0]));
        assert!(done.pictures == alone(Job { safety: skipped, ..job }).await);
    }
    assert_eq!((metrics.checked(Verdict::Flagged), metrics.checked(Verdict::Clean)), (1, 1));
}

#[tokio::test]
async fn black_has_the_size_that_the_picture_had() {
    let (engine, _control, _metrics) = engine(quick()).await;
    let done = result(engine.submit(grey(250, (128, 64), SafetyCheck::Wanted)).unwrap()).await.unwrap();
    assert_eq!((done.pictures[0].width(), done.pictures[0].height(), &done.flagged[..]), (128, 64, &[true][..]));
    assert!(is_black(&done.pictures[0]));
}

#[tokio::test]
async fn every_picture_of_a_job_has_its_own_flag_and_its_time_counts() {
    let (engine, control, _metrics) = engine(quick()).await;
    let three = Job { seeds: vec![1, 2, 3], ..bright(SafetyCheck::Wanted) };
    let done = result(engine.submit(three).unwrap()).await.unwrap();
    assert_eq!((done.pictures.len(), done.flagged), (3, vec![true; 3]));
    assert_eq!(control.calls_of(FakePart::Check).iter().map(|call| call.rows).sum::<usize>(), 3);
    let timings = done.timings;
    assert!(timings.inference() >= timings.encode + timings.steps + timings.decode + timings.check);
}

#[tokio::test]
async fn a_check_happens_between_two_steps_of_others() {
    let (engine, control, _metrics) = engine(quick()).await;
    control.hold(FakePart::Step);
    let short = engine.submit(Job { steps: 1, ..dark(SafetyCheck::Wanted) }).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    let long = engine.submit(Job { steps: 3, ..dark(SafetyCheck::Skipped) }).unwrap();
    control.release(FakePart::Step);
    result(short).await.unwrap();
    result(long).await.unwrap();
    let parts: Vec<FakePart> = control.calls().into_iter().map(|call| call.part).collect();
    let steps: Vec<usize> = (0..parts.len()).filter(|index| parts[*index] == FakePart::Step).collect();
    let between = &parts[steps[0] + 1..steps[1]];
    for part in [FakePart::Decode, FakePart::Check, FakePart::Encode] {
        assert_eq!(between.iter().filter(|other| **other == part).count(), 1, "{part:?} of {parts:?}");
    }
    assert_eq!(steps.len(), 4);
}

#[tokio::test]
async fn a_picture_that_nobody_waits_for_is_not_checked() {
    let (engine, control, _metrics) = engine(quick()).await;
    control.hold(FakePart::Decode);
    let gone = engine.submit(dark(SafetyCheck::Wanted)).unwrap();
    within(control.called(FakePart::Decode, 1)).await;
    drop(gone);
    control.release(FakePart::Decode);
    result(engine.submit(dark(SafetyCheck::Skipped)).unwrap()).await.unwrap();
    assert!(control.calls_of(FakePart::Check).is_empty());
}

#[tokio::test]
async fn nothing_is_shown_where_the_checker_fails_and_who_did_not_ask_has_his_picture() {
    let (engine, control, _metrics) = engine(batches_of(2)).await;
    control.inject(FakePart::Check, 0, FakeFault::Fail);
    let asked = engine.submit(dark(SafetyCheck::Wanted)).unwrap();
    let other = engine.submit(dark(SafetyCheck::Skipped)).unwrap();
    let failed = result(asked).await.unwrap_err();
    let EngineError::Backend { rows: 1, cause } = failed else { panic!("{failed}") };
    assert!(matches!(&*cause, BackendError::Run { part: "safety_checker", .. }));
    assert_eq!(result(other).await.unwrap().pictures.len(), 1);
}

#[tokio::test]
async fn a_checker_that_panics_fails_its_pictures_and_comes_back_with_a_warm_up() {
    let (engine, control, _metrics) = engine(quick()).await;
    control.inject(FakePart::Check, 0, FakeFault::Panic);
    let failed = result(engine.submit(bright(SafetyCheck::Wanted)).unwrap()).await.unwrap_err();
    let EngineError::Backend { cause, .. } = failed else { panic!("{failed}") };
    assert!(matches!(&*cause, BackendError::Panicked { .. }));
    assert_eq!(result(engine.submit(bright(SafetyCheck::Wanted)).unwrap()).await.unwrap().flagged, [true]);
}

#[tokio::test]
async fn a_model_without_a_checker_refuses_jobs_that_want_a_check() {
    let (opened, control) = FakeBackend::open(FakeSettings::default());
    let engine = Engine::start(quick(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    let refused = engine.submit(bright(SafetyCheck::Wanted)).unwrap_err();
    assert!(matches!(&refused, EngineError::Unfit { what } if what.contains("no safety checker")), "{refused}");
    let done = result(engine.submit(bright(SafetyCheck::Skipped)).unwrap()).await.unwrap();
    assert_eq!((done.flagged.as_slice(), is_black(&done.pictures[0])), (&[false][..], false));
    assert!(control.calls_of(FakePart::Check).is_empty());
}
