//! Rows of different people join and leave between any two calls of the UNet.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use falgate::engine::{
    Engine, EngineError, EngineMetrics, EngineSettings, FakeBackend, FakeControl, FakePart, FakeSettings, Job, Lane,
    ModelFacts, Order, Outcome, Ticket, Timesteps,
};

use super::engine_support::{alone, engine, job, painted, picture, quick, result, within};

fn steps(control: &FakeControl) -> Vec<Vec<u32>> {
    control.calls_of(FakePart::Step).into_iter().map(|call| call.timesteps).collect()
}

fn parts(control: &FakeControl) -> Vec<(FakePart, usize)> {
    control.calls().into_iter().map(|call| (call.part, call.rows)).collect()
}

/// Submits a job and waits until its first step is held.
async fn stepping(engine: &Engine, control: &FakeControl, job: Job) -> Ticket {
    control.hold(FakePart::Step);
    let ticket = engine.submit(job).unwrap();
    within(control.called(FakePart::Step, 1)).await;
    ticket
}

#[tokio::test]
async fn a_newcomer_joins_at_the_next_step_and_leaves_when_it_is_done() {
    let (engine, control) = engine(quick()).await;
    let first = stepping(&engine, &control, job(1)).await;
    let second = engine.submit(Job { steps: 2, strength: 0.8, ..job(2) }).unwrap();
    control.release(FakePart::Step);
    let (first, second) = (painted(first).await, painted(second).await);
    assert_eq!(steps(&control), [vec![499], vec![379, 799], vec![259, 399], vec![139]]);
    assert!(vec![first] == alone(job(1)).await);
    assert!(vec![second] == alone(Job { steps: 2, strength: 0.8, ..job(2) }).await);
}

#[tokio::test]
async fn encoding_and_decoding_happen_between_two_steps() {
    let (engine, control) = engine(quick()).await;
    let first = stepping(&engine, &control, Job { steps: 2, ..job(1) }).await;
    let second = engine.submit(job(2)).unwrap();
    control.release(FakePart::Step);
    painted(first).await;
    painted(second).await;
    let (embed, encode, decode) = ((FakePart::Embed, 1), (FakePart::Encode, 1), (FakePart::Decode, 1));
    let step = |rows| (FakePart::Step, rows);
    let want = [embed, encode, step(1), embed, encode, step(2), decode, step(1), step(1), step(1), decode];
    assert_eq!(parts(&control), want);
}

#[tokio::test]
async fn several_newcomers_are_encoded_together() {
    let (engine, control) = engine(quick()).await;
    let first = stepping(&engine, &control, job(1)).await;
    let others = [2, 3, 4].map(|seed| engine.submit(job(seed)).unwrap());
    control.release(FakePart::Step);
    painted(first).await;
    for other in others {
        painted(other).await;
    }
    let rows = |part| control.calls_of(part).iter().map(|call| call.rows).collect::<Vec<_>>();
    assert_eq!((rows(FakePart::Embed), rows(FakePart::Encode)), (vec![1, 3], vec![1, 3]));
    assert_eq!((rows(FakePart::Step), rows(FakePart::Decode)), (vec![1, 4, 4, 4, 3], vec![1, 3]));
}

#[tokio::test]
async fn rows_of_different_sizes_take_turns_and_never_share_a_call() {
    let (engine, control) = engine(quick()).await;
    let wide = Job { picture: picture(128, 64, 9), steps: 3, strength: 1.0, ..job(2) };
    let first = stepping(&engine, &control, job(1)).await;
    let second = engine.submit(wide.clone()).unwrap();
    control.release(FakePart::Step);
    assert!(vec![painted(first).await] == alone(job(1)).await);
    assert!(vec![painted(second).await] == alone(wide).await);
    assert_eq!(steps(&control), [[499], [379], [999], [259], [679], [139], [339]]);
}

#[tokio::test]
async fn a_model_with_one_timestep_for_all_rows_shares_calls_where_they_are_equal() {
    let facts = ModelFacts { timesteps: Timesteps::Shared, ..FakeSettings::default().facts };
    let (opened, control) = FakeBackend::open(FakeSettings { facts, ..FakeSettings::default() });
    let engine = Engine::start(quick(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    control.clear();
    let first = stepping(&engine, &control, job(1)).await;
    let others = [2, 3].map(|seed| engine.submit(job(seed)).unwrap());
    control.release(FakePart::Step);
    assert!(vec![painted(first).await] == alone(job(1)).await);
    for (other, seed) in others.into_iter().zip([2, 3]) {
        assert!(vec![painted(other).await] == alone(job(seed)).await);
    }
    let calls = steps(&control);
    assert!(calls.iter().all(|call| call.iter().all(|timestep| *timestep == call[0])), "{calls:?}");
    assert_eq!(calls.len(), 8, "the two that came together go together: {calls:?}");
}

#[tokio::test]
async fn no_lane_gets_a_second_row_before_another_waiting_lane_gets_its_first() {
    let two = EngineSettings { max_batch: NonZeroUsize::new(2).unwrap(), ..quick() };
    let (engine, control) = engine(two).await;
    let greedy = Job { seeds: (0..4).collect(), steps: 1, ..job(1) };
    let first = stepping(&engine, &control, greedy).await;
    let modest = engine.submit(Job { steps: 1, ..job(50) }).unwrap();
    control.pass(FakePart::Step, 2);
    // Two steps passed and the third is held: it can only be painted if it was in one of those two.
    painted(modest).await;
    assert_eq!(steps(&control)[1].len(), 2, "it had its row with the third of the other lane");
    control.release(FakePart::Step);
    assert_eq!(result(first).await.unwrap().pictures.len(), 4);
}

/// An engine with one place, which a job holds in its first step, and its lane.
async fn one_place() -> (Engine, FakeControl, Ticket, Lane) {
    let one = EngineSettings { max_batch: NonZeroUsize::MIN, ..quick() };
    let (engine, control) = engine(one).await;
    let lane = Lane::new();
    let first = stepping(&engine, &control, Job { lane, ..job(1) }).await;
    (engine, control, first, lane)
}

/// The tickets in the order in which their pictures come, by number, once everybody waits and the steps are let go.
async fn order_of<const N: usize>(tickets: [Ticket; N], control: &FakeControl) -> Vec<usize> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for (number, ticket) in tickets.into_iter().enumerate() {
        let tell = tell.clone();
        tokio::spawn(async move {
            painted(ticket).await;
            tell.send(number).unwrap();
        });
    }
    drop(tell);
    // On this one thread each task has waited for its picture before this goes on.
    tokio::task::yield_now().await;
    control.release(FakePart::Step);
    let mut order = Vec::new();
    while let Some(number) = within(told.recv()).await {
        order.push(number);
    }
    order
}

#[tokio::test]
async fn the_newest_stroke_of_a_lane_goes_first() {
    let (engine, control, first, lane) = one_place().await;
    let stroke = |seed| Job { lane, order: Order::NewestFirst, ..job(seed) };
    let old = engine.submit(stroke(2)).unwrap();
    let new = engine.submit(stroke(3)).unwrap();
    // A stranger, who has not had a turn yet, goes before both.
    let stranger = engine.submit(job(4)).unwrap();
    assert_eq!(order_of([first, old, new, stranger], &control).await, [0, 3, 2, 1]);
}

#[tokio::test]
async fn a_stroke_that_waits_gives_way_to_the_one_that_supersedes_it() {
    let one = EngineSettings { max_batch: NonZeroUsize::MIN, queue: NonZeroUsize::MIN, ..quick() };
    let (engine, control) = engine(one).await;
    let first = stepping(&engine, &control, job(1)).await;
    let stroke = |lane, seed| Job { lane, order: Order::Supersedes, ..job(seed) };
    let lane = Lane::new();
    let old = engine.submit(stroke(lane, 2)).unwrap();
    assert!(matches!(engine.submit(stroke(Lane::new(), 3)), Err(EngineError::Full { limit: 1 })));
    let new = engine.submit(stroke(lane, 4)).unwrap();
    assert!(matches!(result(old).await, Err(EngineError::Superseded)));
    control.release(FakePart::Step);
    painted(first).await;
    assert!(vec![painted(new).await] == alone(job(4)).await);
    assert_eq!(control.calls_of(FakePart::Encode).len(), 2);
}

#[tokio::test]
async fn a_row_whose_input_was_superseded_leaves_at_the_next_step() {
    let (engine, control) = engine(quick()).await;
    let lane = Lane::new();
    let stroke = |seed| Job { lane, order: Order::Supersedes, ..job(seed) };
    let old = stepping(&engine, &control, stroke(1)).await;
    let neighbour = engine.submit(job(2)).unwrap();
    let new = engine.submit(stroke(3)).unwrap();
    control.release(FakePart::Step);
    assert!(matches!(result(old).await, Err(EngineError::Superseded)));
    assert!(vec![painted(neighbour).await] == alone(job(2)).await);
    assert!(vec![painted(new).await] == alone(job(3)).await);
    let rows: Vec<usize> = steps(&control).iter().map(Vec::len).collect();
    assert_eq!(rows, [1, 2, 2, 2, 2], "the old one took the step that it was in, and no other");
}

#[tokio::test]
async fn a_row_whose_client_is_gone_leaves_at_the_next_step_and_makes_room() {
    let (engine, control, first, _) = one_place().await;
    let next = engine.submit(job(2)).unwrap();
    drop(first);
    control.release(FakePart::Step);
    painted(next).await;
    assert_eq!(steps(&control), [[499], [499], [379], [259], [139]]);
}

/// A job with a deadline, after enough pictures that their costs are believed.
async fn with_deadline(in_ms: u64) -> (Result<Ticket, EngineError>, FakeControl, EngineMetrics) {
    behind(0, quick(), in_ms).await
}

/// The same behind so many jobs that wait.
async fn behind(
    waiting: u64,
    settings: EngineSettings,
    in_ms: u64,
) -> (Result<Ticket, EngineError>, FakeControl, EngineMetrics) {
    let cost = Duration::from_millis(20);
    let (opened, control) = FakeBackend::open(FakeSettings { step: cost, ..FakeSettings::default() });
    let metrics = EngineMetrics::unregistered();
    let one = EngineSettings { max_batch: NonZeroUsize::MIN, ..settings };
    let engine = Engine::start_measured(one, metrics.clone(), |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    for seed in 0..3 {
        painted(engine.submit(job(seed)).unwrap()).await;
    }
    control.clear();
    let running = stepping(&engine, &control, job(1)).await;
    let before: Vec<_> = (0..waiting).map(|seed| engine.submit(job(10 + seed)).unwrap()).collect();
    let start_by = Some(Instant::now() + Duration::from_millis(in_ms));
    let submitted = engine.submit(Job { start_by, ..job(2) });
    control.release(FakePart::Step);
    painted(running).await;
    for ticket in before {
        painted(ticket).await;
    }
    (submitted, control, metrics)
}

#[tokio::test]
async fn a_full_queue_says_so_before_anything_is_reckoned() {
    let settings = EngineSettings { queue: NonZeroUsize::MIN, ..quick() };
    let (submitted, _, metrics) = behind(1, settings, 40).await;
    assert!(matches!(submitted, Err(EngineError::Full { limit: 1 })), "{submitted:?}");
    assert_eq!(metrics.jobs(Outcome::TooLate), 0);
}

#[tokio::test]
async fn a_job_that_would_miss_its_deadline_is_refused_before_it_costs_anything() {
    // Four steps of at least 20 ms lie before it, of which one is under way.
    let (submitted, control, metrics) = with_deadline(40).await;
    let Err(EngineError::TooLate { wait }) = submitted else { panic!("{submitted:?}") };
    assert!(wait >= Duration::from_millis(60), "{wait:?}");
    assert_eq!(control.calls_of(FakePart::Encode).len(), 1);
    assert_eq!(metrics.jobs(Outcome::TooLate), 1);
}

#[tokio::test]
async fn a_job_that_will_make_its_deadline_is_admitted() {
    let (submitted, control, _) = with_deadline(3_600_000).await;
    painted(submitted.unwrap()).await;
    assert_eq!(control.calls_of(FakePart::Encode).len(), 2);
}

#[tokio::test]
async fn rows_and_waits_of_calls_are_counted() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = EngineMetrics::register(&mut registry);
    let (opened, control) = FakeBackend::open(FakeSettings::default());
    let engine = Engine::start_measured(quick(), metrics, |_| Ok(opened));
    within(engine.ready()).await.unwrap();
    control.clear();
    let first = stepping(&engine, &control, job(1)).await;
    let second = engine.submit(job(2)).unwrap();
    let third = engine.submit(job(3)).unwrap();
    control.release(FakePart::Step);
    for ticket in [first, second, third] {
        painted(ticket).await;
    }
    engine.close();
    within(engine.ended()).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "falgate_engine_call_rows_count 5",
        "falgate_engine_call_rows_sum 12.0",
        "falgate_engine_encode_rows_sum 3.0",
        "falgate_engine_encode_rows_count 2",
        "falgate_engine_decode_rows_sum 3.0",
        "falgate_engine_wait_steps_count 3",
        "falgate_engine_wait_steps_bucket{le=\"1.0\"} 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
