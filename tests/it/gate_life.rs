//! The gate over time: keys that change, ends in good order, callers that leave, services that panic.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use falgate::engine::{FakeFault, FakePart};
use falgate::gate::accept::{DrainSettings, EdgeServer, LimitSettings, Listener};
use falgate::gate::layers::Origins;
use falgate::gate::{Layers, stack};
use falgate::guard::{AddressSettings, ClientAddrLayer};
use falgate::telemetry::{HttpMetrics, LogFormat, LogSubject, RequestLogLayer};
use falgate::wire::Body;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::net::TcpStream;
use tower::service_fn;

use crate::engine_support::{job, within};
use crate::gate_support::{ENGINE, Gate, Line, PROXY, RUN, asked, detail, fal_at, piece, proxied};
use crate::host_desk::{input, input_with};
use crate::support::fake_fal::{FakeFal, Reply};

const FLUX: &str = "https://fal.run/fal-ai/flux";
const EVENTS: &str = "https://queue.fal.run/fal-ai/flux/requests/0123/status/stream";

/// A gate whose fal key is in a file that is looked at every second.
async fn keyed(fal: &FakeFal, file: &std::path::Path, watch_s: u32) -> Gate {
    let keys = format!("[upstream]\nkeys = [{{ file = \"{}\" }}]\nkey_watch_s = {watch_s}\n", file.display());
    Gate::start_in(&fal_at(&fal.url()).replace("[upstream]\n", &keys), &[], None).await
}

/// Calls until fal sees `key`; every call must go well, with one of the two keys.
async fn call_until(gate: &Gate, fal: &FakeFal, before: &str, key: &str) {
    let mut line = Line::to(gate.address).await;
    within(async {
        loop {
            assert_eq!(line.send(proxied(FLUX, "{}")).await.status, 200);
            let seen = fal.seen().pop().unwrap();
            match seen.header("authorization").unwrap().strip_prefix("Key ").unwrap() {
                now if now == key => break,
                now => assert_eq!(now, before),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_replaced_key_file_is_used_from_the_next_request_on_and_none_fails() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old-id:old-secret\n").unwrap();
    let gate = keyed(&fal, &file, 1).await;
    call_until(&gate, &fal, "", "old-id:old-secret").await;
    std::fs::write(folder.path().join("next"), "new-id:new-secret-longer\n").unwrap();
    std::fs::rename(folder.path().join("next"), &file).unwrap();
    call_until(&gate, &fal, "old-id:old-secret", "new-id:new-secret-longer").await;
}

#[tokio::test]
async fn told_to_reload_the_gate_reads_the_key_file_at_once_and_keeps_the_key_if_it_is_broken() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old-id:old-secret").unwrap();
    let gate = keyed(&fal, &file, 3600).await;
    std::fs::write(&file, "new-id:new-secret").unwrap();
    gate.reload();
    call_until(&gate, &fal, "old-id:old-secret", "new-id:new-secret").await;
    std::fs::write(&file, "").unwrap();
    gate.reload();
    for _ in 0..20 {
        call_until(&gate, &fal, "", "new-id:new-secret").await;
    }
    std::fs::write(&file, "last-id:last-secret").unwrap();
    gate.reload();
    call_until(&gate, &fal, "new-id:new-secret", "last-id:last-secret").await;
}

/// A fal whose only answer is an event stream, and the string that moves it.
async fn streaming() -> (FakeFal, tokio::sync::mpsc::Sender<Result<bytes::Bytes, falgate::wire::BodyError>>) {
    let (reply, events) = Reply::events();
    let reply = Mutex::new(Some(reply));
    (FakeFal::http(move |_| reply.lock().unwrap().take().unwrap()).await, events)
}

fn listen_to_events() -> Request<http_body_util::Full<bytes::Bytes>> {
    asked(Method::GET, PROXY, &[("accept", "text/event-stream"), ("x-fal-target-url", EVENTS)], "")
}

/// Asks the admin listener until it is not ready any more.
async fn draining(gate: &Gate) {
    let mut admin = Line::to(gate.admin).await;
    within(async { while admin.send(asked(Method::GET, "/readyz", &[], "")).await.status != 503 {} }).await;
}

#[tokio::test]
async fn a_gate_that_stops_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (fal, events) = streaming().await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    gate.control().hold(FakePart::Step);
    let mut running = Line::to(gate.address).await;
    let run = tokio::spawn(async move { running.send(proxied(RUN, input().to_string())).await });
    within(gate.control().called(FakePart::Step, 1)).await;
    let mut listening = Line::to(gate.address).await;
    events.send(Ok("data: 1\n\n".into())).await.unwrap();
    let (status, _, mut body) = listening.begin(listen_to_events()).await;
    assert_eq!((status, piece(&mut body).await.as_ref()), (200, &b"data: 1\n\n"[..]));

    gate.ask_to_stop();
    draining(&gate).await;
    within(async { while TcpStream::connect(gate.address).await.is_ok() {} }).await;
    events.send(Ok("data: 2\n\n".into())).await.unwrap();
    assert_eq!(piece(&mut body).await.as_ref(), b"data: 2\n\n");
    drop(events);
    assert!(within(body.frame()).await.is_none());
    gate.control().release(FakePart::Step);
    let answer = run.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.json()["images"].as_array().map(Vec::len)), (200, Some(1)));
    let report = gate.ended().await;
    assert_eq!((report.open_at_end, report.cut), (2, 0));
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_cut() {
    let (fal, events) = streaming().await;
    let gate = Gate::start(&format!("{}[gate.drain]\ndeadline_ms = 200\n", fal_at(&fal.url()))).await;
    let mut listening = Line::to(gate.address).await;
    events.send(Ok("data: 1\n\n".into())).await.unwrap();
    let (_, _, mut body) = listening.begin(listen_to_events()).await;
    piece(&mut body).await;
    gate.ask_to_stop();
    let report = gate.ended().await;
    assert_eq!((report.open_at_end, report.cut), (1, 1));
    assert!(within(body.frame()).await.unwrap().is_err(), "the caller sees that this was no end");
    within(fal.cancelled()).await;
}

#[tokio::test]
async fn a_caller_that_leaves_stops_its_run_at_the_next_step() {
    let gate = Gate::start_in(ENGINE, &[], None).await;
    gate.control().hold(FakePart::Step);
    let mut line = Line::to(gate.address).await;
    let wish = input_with(json!({ "num_inference_steps": 8, "strength": 1.0 })).to_string();
    let mut sent = Box::pin(line.begin(proxied(RUN, wish)));
    tokio::select! {
        answer = &mut sent => panic!("{answer:?}"),
        () = within(gate.control().called(FakePart::Step, 1)) => {}
    }
    drop(sent);
    drop(line);
    let mut admin = Line::to(gate.admin).await;
    within(async {
        loop {
            let metrics = admin.send(asked(Method::GET, "/metrics", &[], "")).await;
            if String::from_utf8_lossy(&metrics.body).contains("falgate_requests_in_flight 0\n") {
                break;
            }
        }
    })
    .await;
    gate.control().release(FakePart::Step);
    within(gate.engine().submit(job(7)).unwrap()).await.unwrap();
    let decoded = gate.control().calls_of(FakePart::Decode);
    assert_eq!(decoded.len(), 1, "only the later job was finished");
    let alone = gate.control().calls_of(FakePart::Step).len();
    assert!(alone <= 5, "one step of the cancelled job and those of the later one, not {alone}");
}

#[tokio::test]
async fn a_caller_that_leaves_closes_the_call_to_fal() {
    let fal = FakeFal::http(|_| Reply::never()).await;
    let gate = Gate::start(&fal_at(&fal.url())).await;
    let mut line = Line::to(gate.address).await;
    let mut sent = Box::pin(line.begin(proxied(FLUX, "{\"prompt\":1}")));
    tokio::select! {
        answer = &mut sent => panic!("{answer:?}"),
        () = within(fal.received(12)) => {}
    }
    drop(sent);
    drop(line);
    within(fal.cancelled()).await;
}

#[tokio::test]
async fn a_panic_in_the_device_costs_its_run_alone() {
    let gate = Gate::start_in(ENGINE, &[], None).await;
    gate.control().inject(FakePart::Step, 0, FakeFault::Panic);
    let mut line = Line::to(gate.address).await;
    let broken = line.send(proxied(RUN, input().to_string())).await;
    assert_eq!((broken.status.as_u16(), detail(&broken).as_str()), (500, "Internal Server Error"));
    assert_eq!(line.send(proxied(RUN, input().to_string())).await.status, 200, "on the same connection");
}

#[tokio::test]
async fn a_service_that_panics_is_a_500_and_the_connection_goes_on() {
    let mut registry = prometheus_client::registry::Registry::default();
    let describe = |_: &http::Extensions| LogSubject { request_id: None, client: None };
    let layers = Layers {
        client_addr: ClientAddrLayer::new(AddressSettings::default()),
        log: RequestLogLayer::new(None, LogFormat::Text, HttpMetrics::register(&mut registry), describe),
        origins: Arc::new(Origins::Unused),
    };
    let routes = service_fn(async |request: Request<Body>| -> Result<Response<Body>, Infallible> {
        assert_ne!(request.uri().path(), "/panic", "the test wants it");
        Ok(Response::new(Body::from("well")))
    });
    let limits = LimitSettings::default();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &limits).unwrap();
    let address = listener.local_addr().unwrap();
    let server = EdgeServer::new(limits, DrainSettings::default());
    let service = stack(&layers, routes);
    tokio::spawn(async move { server.serve(listener, service, std::future::pending()).await });
    let mut line = Line::to(address).await;
    for _ in 0..2 {
        let broken = line.send(asked(Method::GET, "/panic", &[], "")).await;
        assert_eq!((broken.status.as_u16(), detail(&broken).as_str()), (500, "Internal Server Error"));
        let well = line.send(asked(Method::GET, "/", &[], "")).await;
        assert_eq!((well.status.as_u16(), well.body.as_ref()), (200, &b"well"[..]));
    }
}
