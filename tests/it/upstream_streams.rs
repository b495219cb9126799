//! Bodies stream in both directions, stop when either side goes, and wait for slow readers.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use falgate::wire::{Body, BodyError};

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{Stack, open, open_stack, piped, post, request, send, stack, upstream};

const STREAM: &str = "https://fal.run/fal-ai/flux/dev/stream";
const RUN: &str = "https://fal.run/fal-ai/flux/dev";

type Events = mpsc::Sender<Result<Bytes, BodyError>>;

/// A fal that streams one answer, as the test says.
async fn streaming() -> (FakeFal, Events, Stack) {
    let (reply, events) = Reply::events();
    let reply = Mutex::new(Some(reply));
    let fal = FakeFal::http(move |_| reply.lock().unwrap().take().unwrap()).await;
    let stack = open_stack(&fal.url());
    (fal, events, stack)
}

async fn next(body: &mut Body) -> Bytes {
    body.frame().await.unwrap().unwrap().into_data().unwrap()
}

#[tokio::test]
async fn case_13_the_first_event_arrives_before_the_last_is_produced() {
    let (_fal, events, stack) = streaming().await;
    let answer = send(&stack, post(STREAM, "{}")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    for event in ["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\n"] {
        events.send(Ok(event.into())).await.unwrap();
        assert_eq!(next(&mut body).await, event);
    }
    drop(events);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn case_14_a_caller_that_goes_before_the_answer_cancels_the_work() {
    let fal = FakeFal::http(|_| Reply::never()).await;
    let stack = open_stack(&fal.url());
    let call = tokio::spawn(async move { send(&stack, post(RUN, "{}")).await });
    fal.received(2).await;
    call.abort();
    fal.cancelled().await;
}

#[tokio::test]
async fn case_14_a_caller_that_goes_within_the_answer_cancels_the_work() {
    let (fal, events, stack) = streaming().await;
    let mut body = send(&stack, post(STREAM, "{}")).await.into_body();
    events.send(Ok("data: 1\n\n".into())).await.unwrap();
    next(&mut body).await;
    drop(body);
    fal.cancelled().await;
    assert_eq!(fal.seen().len(), 1);
}

#[tokio::test]
async fn an_upload_is_passed_on_while_it_still_comes() {
    let fal = FakeFal::http(|seen| Reply::json(200, seen.body.clone())).await;
    let stack = open_stack(&fal.url());
    let (sender, body) = piped();
    let call = tokio::spawn(async move { send(&stack, request(Method::POST, RUN, body)).await });
    sender.send(Ok("{\"a\":".into())).await.unwrap();
    fal.received(5).await;
    sender.send(Ok("1}".into())).await.unwrap();
    drop(sender);
    let answer = call.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "{\"a\":1}");
}

/// Pushes pieces until the way is blocked; gives the number of bytes that went in.
async fn fill(events: &Events, piece: &Bytes, taken: &Arc<AtomicUsize>) {
    while events.send(Ok(piece.clone())).await.is_ok() {
        taken.fetch_add(piece.len(), Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_stalled_reader_stops_fal_instead_of_filling_memory() {
    let (_fal, events, stack) = streaming().await;
    let mut body = send(&stack, post(STREAM, "{}")).await.into_body();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let piece = Bytes::from(vec![b'x'; 16 * 1024]);
    let filling = tokio::spawn(async move { fill(&events, &piece, &counted).await });
    next(&mut body).await;
    // Nobody reads on. Once the kernel's buffers and ours are full, nothing moves any more.
    let (mut before, mut since) = (usize::MAX, Instant::now());
    while since.elapsed() < Duration::from_millis(200) {
        tokio::task::yield_now().await;
        let now = taken.load(Ordering::SeqCst);
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    // Most of it lies in the kernel's socket buffers, some 64 KiB here; a proxy that collects would never stop.
    assert!(before < 16 * 1024 * 1024, "{before} bytes were taken for a reader that does not read");
    filling.abort();
}

#[tokio::test]
async fn a_body_of_the_limit_passes_unchanged() {
    let fal = FakeFal::http(|seen| Reply::json(200, seen.body.clone())).await;
    let stack = stack(open(), upstream(&fal.url()));
    let long = format!("\"{}\"", "x".repeat(3_000_000));
    let answer = send(&stack, post(RUN, &long)).await;
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), long);
    assert_eq!(fal.only().header("content-length"), Some(long.len().to_string().as_str()));
}
