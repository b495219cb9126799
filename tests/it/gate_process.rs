//! The program as a process: signals, exit codes, and that a failed start ends cleanly.

use std::net::TcpListener;
use std::sync::Mutex;

use http::Method;
use rustix::process::Signal;

use crate::engine_support::within;
use crate::gate_support::{FAL_KEY, Line, PROXY, asked, fal_at, piece, proxied};
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::program::Program;

const FLUX: &str = "https://fal.run/fal-ai/flux";
const EVENTS: &str = "https://queue.fal.run/fal-ai/flux/requests/0123/status/stream";
const TINY: &str = "[engine]\nenabled = true\nmodel = \"tests/models/tiny-lcm-onnx\"\n\
    [[route]]\nendpoint = \"fal-ai/lcm-sd15-i2i\"\nto = \"engine\"\n";

#[tokio::test]
async fn sigterm_lets_the_request_in_flight_finish_and_ends_with_0() {
    let (reply, events) = Reply::events();
    let reply = Mutex::new(Some(reply));
    let fal = FakeFal::http(move |_| reply.lock().unwrap().take().unwrap()).await;
    let mut gate = Program::start(&fal_at(&fal.url()), &[("FAL_KEY", FAL_KEY)]);
    let address = gate.address().await;
    let mut line = Line::to(address).await;
    events.send(Ok("data: 1\n\n".into())).await.unwrap();
    let listen = asked(Method::GET, PROXY, &[("accept", "text/event-stream"), ("x-fal-target-url", EVENTS)], "");
    let (status, _, mut body) = line.begin(listen).await;
    assert_eq!((status, piece(&mut body).await.as_ref()), (200, &b"data: 1\n\n"[..]));

    gate.signal(Signal::TERM);
    gate.says("draining").await;
    within(async { while tokio::net::TcpStream::connect(address).await.is_ok() {} }).await;
    events.send(Ok("data: 2\n\n".into())).await.unwrap();
    assert_eq!(piece(&mut body).await.as_ref(), b"data: 2\n\n");
    drop(events);
    assert!(within(http_body_util::BodyExt::frame(&mut body)).await.is_none());
    let (code, said) = gate.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("drained") && said.contains("cut=0"), "{said}");
}

#[tokio::test]
async fn a_second_sigterm_waits_for_nothing() {
    let (reply, events) = Reply::events();
    let reply = Mutex::new(Some(reply));
    let fal = FakeFal::http(move |_| reply.lock().unwrap().take().unwrap()).await;
    let mut gate = Program::start(&fal_at(&fal.url()), &[("FAL_KEY", FAL_KEY)]);
    let mut line = Line::to(gate.address().await).await;
    events.send(Ok("data: 1\n\n".into())).await.unwrap();
    let listen = asked(Method::GET, PROXY, &[("accept", "text/event-stream"), ("x-fal-target-url", EVENTS)], "");
    let (_, _, _body) = line.begin(listen).await;
    gate.signal(Signal::TERM);
    gate.says("draining").await;
    gate.signal(Signal::TERM);
    assert_eq!(gate.ended().await.0, Some(1));
}

#[tokio::test]
async fn sighup_reads_the_key_file_again() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old-id:old-secret").unwrap();
    let keys = format!("[upstream]\nkeys = [{{ file = \"{}\" }}]\nkey_watch_s = 3600\n", file.display());
    let mut gate = Program::start(&fal_at(&fal.url()).replace("[upstream]\n", &keys), &[]);
    let mut line = Line::to(gate.address().await).await;
    assert_eq!(line.send(proxied(FLUX, "{}")).await.status, 200);
    std::fs::write(&file, "new-id:new-secret").unwrap();
    gate.signal(Signal::HUP);
    gate.says("read the fal key files again").await;
    assert_eq!(line.send(proxied(FLUX, "{}")).await.status, 200);
    let seen: Vec<_> = fal.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(seen, ["Key old-id:old-secret", "Key new-id:new-secret"]);
    gate.signal(Signal::TERM);
    let (code, said) = gate.ended().await;
    assert_eq!(code, Some(0));
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_ends_with_1_before_an_engine_is_opened() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for text in ["", TINY] {
        let (code, said) = Program::start_at(&address, text, &[]).ended().await;
        assert_eq!(code, Some(1), "{said}");
        let sentence = format!("falgate: the gate cannot serve: cannot listen on {address} (gate.listen): Address");
        assert!(said.contains(&sentence), "{said}");
        assert!(!said.contains("text_encoder"), "no part of the model was opened: {said}");
    }
}

#[tokio::test]
async fn an_admin_port_that_is_taken_names_its_own_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (code, said) = Program::start(&format!("[gate]\nadmin = \"{address}\"\n"), &[]).ended().await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on {address} (gate.admin)")), "{said}");
}

#[tokio::test]
async fn a_runtime_that_is_not_there_ends_with_69() {
    let (code, said) = Program::start(TINY, &[("ORT_DYLIB_PATH", "no/such/library.so")]).ended().await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("falgate: the engine cannot serve") && said.contains("no/such/library.so"), "{said}");
}
