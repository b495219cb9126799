//! Requests that are answered without hyper, and beside those that are not.

use std::convert::Infallible;

use bytes::Bytes;
use falgate::gate::accept::{DrainSettings, EdgeServer, LimitSettings};
use falgate::wire::{Body, BodyError};
use http::{Request, Response};
use http_body::Frame;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tower::service_fn;

use crate::edge_probe::{Gate, read_until};

const PLAIN: &str = "POST /plain HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\none";
const CHUNKED: &str = "POST /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n";
const OTHER: &str = "DELETE /other HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn plain_requests_and_others_are_answered_in_turn_on_one_connection() {
    let gate = Gate::start(&LimitSettings::default());
    let text = gate.probe([PLAIN, PLAIN, CHUNKED, PLAIN, OTHER, PLAIN, LAST].concat()).await;
    let paths: Vec<&str> = text.lines().filter_map(|line| line.split(' ').find(|word| word.starts_with('/'))).collect();
    assert_eq!(paths, ["/plain", "/plain", "/chunked", "/plain", "/other", "/plain", "/last"], "{text}");
    gate.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_ends_the_work_on_its_request() {
    let (begun, mut told) = mpsc::unbounded_channel();
    let service = service_fn(move |_: Request<Body>| {
        let begun = begun.clone();
        async move {
            // Dropped with the work on the request.
            let guard = mpsc::unbounded_channel::<()>();
            begun.send(guard.0.clone()).unwrap();
            let _guard = guard;
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let limits = LimitSettings::default();
    let server = EdgeServer::new(limits.clone(), DrainSettings::default());
    let gate = Gate::start_with(server, &limits, service);
    let mut client = TcpStream::connect(gate.address).await.unwrap();
    client.write_all(PLAIN.as_bytes()).await.unwrap();
    let work = told.recv().await.unwrap();
    assert!(!work.is_closed());
    drop(client);
    work.closed().await;
    gate.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let service = service_fn(|_: Request<Body>| async {
        let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(BodyError::from("it broke"))];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
        Ok::<_, Infallible>(Response::new(Body::new(body)))
    });
    let limits = LimitSettings::default();
    let server = EdgeServer::new(limits.clone(), DrainSettings::default());
    let gate = Gate::start_with(server, &limits, service);
    let text = gate.probe(PLAIN).await;
    assert!(text.ends_with("4\r\nhalf\r\n"), "{text}");
    gate.stop().await;
}

#[tokio::test]
async fn a_refusal_follows_a_plain_answer() {
    let gate = Gate::start(&LimitSettings::default());
    let mut client = TcpStream::connect(gate.address).await.unwrap();
    client.write_all(PLAIN.as_bytes()).await.unwrap();
    assert!(read_until(&mut client, "one").await.starts_with("HTTP/1.1 200"));
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
    assert!(read_until(&mut client, "}").await.starts_with("HTTP/1.1 400"));
    gate.stop().await;
}
