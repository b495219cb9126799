//! Limits on connections, and the end of the gate: rows "slow …: cap of unauthenticated connections per IP" and
//! "drain / deploy" of the security table.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use falgate::gate::accept::{DrainSettings, EdgeServer, LimitSettings, Listener};
use falgate::wire::Body;
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::edge_probe::{Gate, read_until};

fn at_most(all: usize, per_address: usize) -> LimitSettings {
    LimitSettings {
        connections: NonZeroUsize::new(all).unwrap(),
        connections_per_address: NonZeroUsize::new(per_address).unwrap(),
        ..LimitSettings::default()
    }
}

async fn goodbye(gate: &Gate) -> String {
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn hold(gate: &Gate) -> TcpStream {
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    socket.write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut socket, "GET /held [host] ").await;
    socket
}

#[tokio::test]
async fn one_connection_too_many_of_an_address_is_told_so_and_closed() {
    let gate = Gate::start(&at_most(100, 2));
    let held = (hold(&gate).await, hold(&gate).await);
    assert_eq!(
        goodbye(&gate).await,
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 102\r\nretry-after: 1\r\n\
         connection: close\r\n\r\n{\"detail\":\"too many connections from this address\",\"message\":\"too many connections from this address\"}"
    );
    drop(held);
    gate.server.connections().all_ended().await;
    assert!(hold(&gate).await.peer_addr().is_ok(), "a place that is free again is given again");
    assert_eq!(gate.server.connections().refused(), 1);
}

#[tokio::test]
async fn one_connection_too_many_in_all_is_told_so_and_closed() {
    let limits = at_most(1, 100);
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let server = EdgeServer::new(limits.clone(), DrainSettings::default()).with_exempt(networks);
    let gate = Gate::start_server(server, &limits);
    let _held = hold(&gate).await;
    assert!(goodbye(&gate).await.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
}

#[tokio::test]
async fn a_trusted_proxy_may_carry_many() {
    let limits = at_most(100, 1);
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    let server = EdgeServer::new(limits.clone(), DrainSettings::default()).with_exempt(networks);
    let gate = Gate::start_server(server, &limits);
    let _held = (hold(&gate).await, hold(&gate).await, hold(&gate).await);
}

#[tokio::test]
async fn draining_under_load_fails_no_request() {
    const CLIENTS: usize = 8;
    let gate = Gate::start(&LimitSettings::default());
    let address = gate.address;
    let warm = Arc::new(Semaphore::new(0));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (warm, answered) = (Arc::clone(&warm), Arc::clone(&answered));
        clients.push(tokio::spawn(async move {
            // Opens connections until nobody listens any more. Whatever was accepted must be answered, or be closed
            // before a byte of an answer, between two requests.
            while let Ok(mut socket) = TcpStream::connect(address).await {
                for _ in 0..20 {
                    if socket.write_all(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                        break;
                    }
                    let mut answer = Vec::new();
                    let mut piece = [0; 512];
                    while !answer.ends_with(b"] ok") {
                        match socket.read(&mut piece).await {
                            Ok(0) | Err(_) => break,
                            Ok(read) => answer.extend_from_slice(&piece[..read]),
                        }
                    }
                    if answer.is_empty() {
                        break;
                    }
                    assert!(answer.ends_with(b"] ok"), "half an answer: {}", answer.escape_ascii());
                    answered.fetch_add(1, Ordering::Relaxed);
                    warm.add_permits(1);
                    if answer.windows(17).any(|window| window == b"connection: close") {
                        break;
                    }
                }
            }
        }));
    }
    drop(warm.acquire_many(200).await.unwrap());
    let report = gate.stop().await;
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(report.cut, 0, "{report:?}");
    assert!(answered.load(Ordering::Relaxed) >= 200);
}

/// Answers when it is let go.
fn patient(
    arrived: Arc<Notify>,
    go: Arc<Notify>,
) -> impl tower_service::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync {
    tower::service_fn(move |_: Request<Body>| {
        let (arrived, go) = (Arc::clone(&arrived), Arc::clone(&go));
        async move {
            arrived.notify_one();
            go.notified().await;
            Ok(Response::new(Body::from("patience")))
        }
    })
}

#[tokio::test]
async fn a_request_in_flight_is_finished_and_told_that_it_was_the_last() {
    let limits = LimitSettings::default();
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = EdgeServer::new(limits.clone(), DrainSettings::default());
    let gate = Gate::start_with(server.clone(), &limits, patient(Arc::clone(&arrived), Arc::clone(&go)));
    let address = gate.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    arrived.notified().await;
    let stopping = tokio::spawn(gate.stop());
    // The quiet connection goes at once, the busy one when it is done.
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    go.notify_one();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("patience"), "{answer}");
    assert_eq!(stopping.await.unwrap().cut, 0);
    assert_eq!(server.connections().open(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_by_the_deadline_is_cut() {
    let limits = LimitSettings::default();
    let drain = DrainSettings { deadline_ms: 5000.try_into().unwrap() };
    let arrived = Arc::new(Notify::new());
    let server = EdgeServer::new(limits.clone(), drain);
    let (mut client, stream) = tokio::io::duplex(1024);
    let peer = "192.0.2.1:1".parse().unwrap();
    let pass = server.admit(peer).unwrap();
    let serving = server.clone();
    let service = patient(Arc::clone(&arrived), Arc::new(Notify::new()));
    let inner = service.clone();
    tokio::spawn(async move { serving.serve_stream(stream, peer, pass, inner).await });
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    arrived.notified().await;
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &limits).unwrap();
    let started = tokio::time::Instant::now();
    let report = server.serve(listener, service, async {}).await;
    assert_eq!((report.open_at_end, report.cut), (1, 1));
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "the connection is gone");
    server.connections().all_ended().await;
}
