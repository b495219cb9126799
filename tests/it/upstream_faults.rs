//! What callers hear when fal is slow, broken or away.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::net::TcpListener;

use http::Method;

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{
    hurried, message, open, open_stack, piped, post, request, send, stack, text, upstream,
};
use crate::support::raw_fal::{RawFal, Then};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";
const LONG: u64 = 60_000;
const SHORT: u64 = 50;

#[tokio::test]
async fn a_refused_connection_is_502_without_a_host_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let answer = send(&open_stack(&format!("http://{address}")), post(RUN, "{}")).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let said = message(answer).await;
    assert!(!said.contains("127.0.0.1") && !said.contains(&address.port().to_string()), "{said}");
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_504() {
    // Accepted by the kernel, but nobody speaks TLS there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let stack = stack(open(), hurried(upstream(&url), [SHORT, LONG, LONG]));
    let answer = send(&stack, post(RUN, "{}")).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(message(answer).await.contains("reached in time"));
}

#[tokio::test]
async fn no_answer_in_time_is_504_cancels_the_call_and_asks_for_no_retry() {
    let fal = FakeFal::http(|_| Reply::never()).await;
    let stack = stack(open(), hurried(upstream(&fal.url()), [LONG, SHORT, LONG]));
    let answer = send(&stack, post(RUN, "{}")).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers()["x-fal-request-timeout-type"], "user", "clients then send no second, paid, request");
    message(answer).await;
    fal.cancelled().await;
    assert_eq!(fal.seen().len(), 1);
}

#[tokio::test]
async fn fals_own_timeout_answer_is_untouched() {
    let body = r#"{"detail":"Request timed out","error_type":"request_timeout"}"#;
    let fal = FakeFal::http(move |_| Reply::json(504, body).header("x-fal-request-timeout-type", "user")).await;
    let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers()["x-fal-request-timeout-type"], "user");
    assert_eq!(text(answer).await, body);
}

#[tokio::test]
async fn an_answer_that_pauses_for_too_long_ends_with_an_error() {
    let (reply, events) = Reply::events();
    let reply = std::sync::Mutex::new(Some(reply));
    let fal = FakeFal::http(move |_| reply.lock().unwrap().take().unwrap()).await;
    let stack = stack(open(), hurried(upstream(&fal.url()), [LONG, LONG, SHORT]));
    let mut body = send(&stack, post(RUN, "{}")).await.into_body();
    events.send(Ok("data: 1\n\n".into())).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    fal.cancelled().await;
}

#[tokio::test]
async fn a_caller_whose_body_pauses_for_too_long_is_told_so() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let stack = stack(open(), hurried(upstream(&fal.url()), [LONG, LONG, SHORT]));
    let (sender, body) = piped();
    sender.send(Ok("{".into())).await.unwrap();
    let answer = send(&stack, request(Method::POST, RUN, body)).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    message(answer).await;
    drop(sender);
}

#[tokio::test]
async fn a_caller_whose_body_breaks_is_told_so() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let (sender, body) = piped();
    tokio::spawn(async move {
        sender.send(Ok("{".into())).await.unwrap();
        sender.send(Err("gone".into())).await.unwrap();
    });
    let answer = send(&open_stack(&fal.url()), request(Method::POST, RUN, body)).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert!(fal.seen().is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_is_502_and_nothing_is_sent_twice() {
    for broken in [
        &b""[..],
        b"HTTP/1.1 20",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let fal = RawFal::start(broken, Then::Close).await;
        let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY, "{broken:?}");
        message(answer).await;
        assert_eq!(fal.heads().len(), 1, "{broken:?}");
    }
}

#[tokio::test]
async fn a_connection_that_fal_closed_between_two_calls_costs_no_call() {
    let fal = RawFal::start(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Then::Close).await;
    let stack = open_stack(&fal.url());
    for _ in 0..5 {
        let answer = send(&stack, post(RUN, "{}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        text(answer).await;
        // Lets the pool see the end of the connection, as it would between two real calls.
        tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.unwrap_err();
    }
    assert_eq!(fal.heads().len(), 5);
}

#[tokio::test]
async fn a_truncated_answer_ends_with_an_error() {
    for truncated in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"hal\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ] {
        let fal = RawFal::start(truncated, Then::Close).await;
        let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn an_answer_with_two_kinds_of_length_is_refused_and_its_connection_not_used_again() {
    let doubtful = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let fal = RawFal::start(doubtful, Then::KeepOpen).await;
    let stack = open_stack(&fal.url());
    for _ in 0..3 {
        assert_eq!(send(&stack, post(RUN, "{}")).await.status(), StatusCode::BAD_GATEWAY);
    }
    assert_eq!(fal.connections(), 3);
}

#[tokio::test]
async fn bytes_after_an_answer_are_nobodys_answer() {
    let smuggled = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let fal = RawFal::start(smuggled, Then::KeepOpen).await;
    let stack = open_stack(&fal.url());
    for _ in 0..3 {
        assert_eq!(text(send(&stack, post(RUN, "{}")).await).await, "{}");
    }
    assert_eq!(fal.connections(), 3);
}

#[tokio::test]
async fn an_upgrade_that_nobody_asked_for_is_502() {
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let fal = RawFal::start(answer, Then::KeepOpen).await;
    assert_eq!(send(&open_stack(&fal.url()), post(RUN, "{}")).await.status(), StatusCode::BAD_GATEWAY);
}
