//! People who share a batch: each gets their own picture, and nobody is held up by another.

use std::num::NonZeroUsize;
use std::time::Instant;

use falgate::engine::{Engine, EngineError, EngineSettings, FakeControl, FakePart, Job};
use proptest::prelude::*;

use super::engine_support::{alone, batches_of, engine, job, painted, picture, quick, result, within};

fn rows(control: &FakeControl, part: FakePart) -> Vec<usize> {
    control.calls_of(part).iter().map(|call| call.rows).collect()
}

#[tokio::test]
async fn two_callers_in_one_batch_get_their_own_pictures() {
    let (engine, control) = engine(batches_of(2)).await;
    let (first, second) = (engine.submit(job(1)).unwrap(), engine.submit(job(2)).unwrap());
    let (first, second) = (painted(first).await, painted(second).await);
    assert_eq!(rows(&control, FakePart::Step), [2; 4]);
    assert!(first != second);
    assert!(vec![first] == alone(job(1)).await);
    assert!(vec![second] == alone(job(2)).await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_batch_row_equals_the_lone_run(
        shapes in prop::collection::vec((1_u32..6, 0.0..=1.0, 0.0..20.0, 0_u64..1000, 0_u8..3), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let jobs: Vec<Job> = shapes
                .into_iter()
                .map(|(steps, strength, guidance_scale, seed, prompt)| Job {
                    steps,
                    strength,
                    guidance_scale,
                    prompt: format!("prompt {prompt}"),
                    ..job(seed)
                })
                .collect();
            let (engine, control) = engine(batches_of(jobs.len())).await;
            let tickets: Vec<_> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
            for (job, ticket) in jobs.iter().zip(tickets) {
                assert!(result(ticket).await.unwrap().pictures == alone(job.clone()).await);
            }
            assert_eq!(rows(&control, FakePart::Encode), [jobs.len()]);
        });
    }
}

#[tokio::test]
async fn every_input_of_a_job_shows_in_its_picture() {
    let plain = alone(job(1)).await;
    for other in [
        Job { picture: picture(64, 64, 77), ..job(1) },
        Job { prompt: "another".to_owned(), ..job(1) },
        Job { strength: 0.9, ..job(1) },
        Job { steps: 3, ..job(1) },
        Job { guidance_scale: 2.0, ..job(1) },
        Job { seeds: vec![2], ..job(1) },
    ] {
        assert!(plain != alone(other).await);
    }
    assert!(plain == alone(job(1)).await);
}

#[tokio::test]
async fn rows_that_finish_early_leave() {
    let (engine, control) = engine(batches_of(2)).await;
    control.hold(FakePart::Step);
    let short = engine.submit(Job { steps: 1, ..job(1) }).unwrap();
    let long = engine.submit(job(2)).unwrap();
    control.pass(FakePart::Step, 1);
    painted(short).await;
    control.release(FakePart::Step);
    painted(long).await;
    assert_eq!(rows(&control, FakePart::Step), [2, 1, 1, 1]);
    assert_eq!(rows(&control, FakePart::Decode), [1, 1]);
}

#[tokio::test]
async fn rows_of_one_batch_run_at_timesteps_of_their_own() {
    let (engine, control) = engine(batches_of(2)).await;
    let first = engine.submit(Job { strength: 0.8, steps: 2, ..job(1) }).unwrap();
    let second = engine.submit(Job { strength: 0.5, steps: 2, ..job(2) }).unwrap();
    painted(first).await;
    painted(second).await;
    let steps = control.calls_of(FakePart::Step);
    assert_eq!(steps.iter().map(|call| call.timesteps.clone()).collect::<Vec<_>>(), [[799, 499], [399, 259]]);
}

#[tokio::test]
async fn a_cancelled_row_leaves_at_the_next_step_and_its_neighbour_stays() {
    let (engine, control) = engine(batches_of(2)).await;
    control.hold(FakePart::Step);
    let gone = engine.submit(job(1)).unwrap();
    let stays = engine.submit(job(2)).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    drop(gone);
    control.release(FakePart::Step);
    assert!(vec![painted(stays).await] == alone(job(2)).await);
    assert_eq!(rows(&control, FakePart::Step), [2, 1, 1, 1]);
    assert_eq!(rows(&control, FakePart::Decode), [1]);
}

#[tokio::test]
async fn a_row_cancelled_in_its_last_step_is_not_decoded() {
    let (engine, control) = engine(quick()).await;
    control.hold(FakePart::Step);
    let gone = engine.submit(Job { steps: 1, ..job(1) }).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    drop(gone);
    control.release(FakePart::Step);
    painted(engine.submit(job(2)).unwrap()).await;
    assert_eq!(rows(&control, FakePart::Decode), [1]);
}

#[tokio::test]
async fn a_cancelled_job_gives_its_place_in_the_queue_back() {
    let one = EngineSettings { queue: NonZeroUsize::MIN, ..quick() };
    let (engine, control) = engine(one).await;
    let running = busy(&engine, &control).await;
    let waiting = engine.submit(job(2)).unwrap();
    assert!(matches!(engine.submit(job(3)), Err(EngineError::Full { limit: 1 })));
    drop(waiting);
    let next = engine.submit(job(4)).unwrap();
    control.release(FakePart::Embed);
    painted(running).await;
    painted(next).await;
    assert_eq!(rows(&control, FakePart::Encode), [1, 1]);
}

/// Submits a job and waits until it holds the engine at its beginning.
async fn busy(engine: &Engine, control: &FakeControl) -> falgate::engine::Ticket {
    control.hold(FakePart::Embed);
    let running = engine.submit(job(1)).unwrap();
    within(control.called(FakePart::Embed, 1)).await;
    running
}

#[tokio::test]
async fn a_missed_deadline_costs_no_device_time() {
    let (engine, control) = engine(quick()).await;
    let running = busy(&engine, &control).await;
    let late = engine.submit(Job { start_by: Some(Instant::now()), ..job(2) }).unwrap();
    let calm = engine.submit(job(3)).unwrap();
    control.release(FakePart::Embed);
    assert!(matches!(result(late).await, Err(EngineError::StartTimeout)));
    painted(running).await;
    painted(calm).await;
    assert_eq!(rows(&control, FakePart::Encode), [1, 1]);
}

#[tokio::test]
async fn a_deadline_is_noticed_between_the_steps_of_others() {
    let (engine, control) = engine(quick()).await;
    control.hold(FakePart::Step);
    let running = engine.submit(job(1)).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    let late = engine.submit(Job { start_by: Some(Instant::now()), ..job(2) }).unwrap();
    control.pass(FakePart::Step, 1);
    assert!(matches!(result(late).await, Err(EngineError::StartTimeout)));
    control.release(FakePart::Step);
    painted(running).await;
}

#[tokio::test]
async fn jobs_of_one_size_share_and_others_wait_their_turn() {
    let (engine, control) = engine(quick()).await;
    let running = busy(&engine, &control).await;
    let wide = |seed| Job { picture: picture(128, 64, seed as u8), ..job(seed) };
    let jobs = [job(2), wide(3), job(4), wide(5)];
    let tickets: Vec<_> = jobs.iter().map(|job| engine.submit(job.clone()).unwrap()).collect();
    control.release(FakePart::Embed);
    painted(running).await;
    for (job, ticket) in jobs.into_iter().zip(tickets) {
        let done = painted(ticket).await;
        assert_eq!((done.width(), done.height()), (job.picture.width(), job.picture.height()));
    }
    assert_eq!(rows(&control, FakePart::Encode), [1, 2, 2]);
}

#[tokio::test]
async fn a_job_of_many_seeds_runs_in_calls_that_fit() {
    let three = EngineSettings { max_batch: NonZeroUsize::new(3).unwrap(), ..quick() };
    let (engine, control) = engine(three).await;
    let many = Job { seeds: (0..7).collect(), ..job(1) };
    let done = result(engine.submit(many.clone()).unwrap()).await.unwrap();
    assert_eq!(rows(&control, FakePart::Encode), [3, 3, 1]);
    assert_eq!(rows(&control, FakePart::Embed), [1]);
    for (seed, picture) in (0..7).zip(done.pictures) {
        assert!(vec![picture] == alone(Job { seeds: vec![seed], ..many.clone() }).await, "{seed}");
    }
}

#[tokio::test]
async fn a_prompt_is_embedded_once_and_forgotten_when_others_push_it_out() {
    let two = EngineSettings { prompt_cache: NonZeroUsize::new(2).unwrap(), ..quick() };
    let (engine, control) = engine(two).await;
    let paint = async |prompt: &str| {
        painted(engine.submit(Job { prompt: prompt.to_owned(), ..job(1) }).unwrap()).await;
        control.calls_of(FakePart::Embed).len()
    };
    assert_eq!([paint("a").await, paint("a").await, paint("b").await, paint("a").await], [1, 1, 2, 2]);
    assert_eq!([paint("c").await, paint("a").await, paint("b").await], [3, 3, 4]);
}

#[tokio::test]
async fn equal_prompts_of_one_batch_are_embedded_once() {
    let (engine, control) = engine(batches_of(3)).await;
    let prompt = || "the same".to_owned();
    let tickets = [1, 2, 3].map(|seed| engine.submit(Job { prompt: prompt(), ..job(seed) }).unwrap());
    for ticket in tickets {
        painted(ticket).await;
    }
    assert_eq!(rows(&control, FakePart::Embed), [1]);
}
