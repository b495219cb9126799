//! Bodies that the gate holds, whatever for, share one bound.

use falgate::config::{Config, Environment};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::engine_support::within;
use crate::gate_support::{ENGINE, Gate, RUN, detail, fal_at};
use crate::host_desk::input;
use crate::support::fake_fal::{FakeFal, Reply};

const FLUX: &str = "https://fal.run/fal-ai/flux";

/// A call that sends 60 KB of the 64 KB that it announces, and waits.
async fn half_a_call(gate: &Gate, target: &str) -> TcpStream {
    let mut socket = TcpStream::connect(gate.address).await.unwrap();
    let head = format!(
        "POST /api/fal/proxy HTTP/1.1\r\nhost: a\r\nx-fal-target-url: {target}\r\ncontent-type: application/json\r\n\
         content-length: 64000\r\n\r\n"
    );
    socket.write_all(&[head.as_bytes(), &[b' '; 60_000]].concat()).await.unwrap();
    socket
}

/// Two calls of 60 KB fit into 100 KB one after the other, not beside each other.
async fn only_one_fits(gate: &Gate, target: &str, body: &str) {
    let body = format!("{}{body}", " ".repeat(60_000));
    assert_eq!(gate.proxied(target, body.clone()).await.status, 200);
    let half = half_a_call(gate, target).await;
    // Its bytes are on their way.
    let refused = within(async {
        loop {
            let answer = gate.proxied(target, body.clone()).await;
            if answer.status != 200 {
                break answer;
            }
        }
    })
    .await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(detail(&refused), "too many requests are in hand, try again");
    drop(half);
    within(async { while gate.proxied(target, body.clone()).await.status != 200 {} }).await;
}

const POLICY: &str = "[proxy]\nchecked_body_limit_bytes = 65536\n\
    [[proxy.policy]]\nendpoint = \"fal-ai/flux\"\nfields = { num_images = { max = 1 } }\n";

#[tokio::test]
async fn bodies_under_a_policy_never_fill_more_than_their_memory() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let text = format!("[gate]\nbodies_bytes = 100000\n{POLICY}{}", fal_at(&fal.url()));
    let gate = Gate::start(&text).await;
    only_one_fits(&gate, FLUX, "{}").await;
}

#[tokio::test]
async fn bodies_that_may_spill_never_fill_more_than_their_memory() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let row = format!("{ENGINE}spill = \"upstream\"\n");
    let text = format!("[gate]\nbodies_bytes = 100000\n[host]\nmax_body_bytes = 65536\n{}{row}", fal_at(&fal.url()));
    let gate = Gate::start(&text).await;
    only_one_fits(&gate, RUN, &input().to_string()).await;
    assert_eq!(fal.connections(), 0, "a body that finds no room is not sent to fal instead");
}

#[tokio::test]
async fn a_caller_that_announces_much_and_sends_little_keeps_nobody_out() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let gate = Gate::start(&format!("[gate]\nbodies_bytes = 100000\n{POLICY}{}", fal_at(&fal.url()))).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(gate.address).await.unwrap();
        let head = format!(
            "POST /api/fal/proxy HTTP/1.1\r\nhost: a\r\nx-fal-target-url: {FLUX}\r\ncontent-type: application/json\r\n\
             content-length: 64000\r\n\r\n{{"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        silent.push(socket);
    }
    assert_eq!(gate.proxied(FLUX, " ".repeat(60_000) + "{}").await.status, 200);
}

#[test]
fn a_body_that_can_never_fit_is_a_fault_of_the_configuration() {
    for (text, key) in [
        (POLICY.replace("65536", "300000000"), "proxy.checked_body_limit_bytes"),
        (
            format!("[host]\nmax_body_bytes = 300000000\nbodies_bytes = 300000000\n{ENGINE}spill = \"upstream\"\n"),
            "host.max_body_bytes",
        ),
    ] {
        let faults = Config::load(&text, &Environment::from([("FAL_KEY", "id:secret")])).unwrap_err().to_string();
        assert!(faults.contains("gate.bodies_bytes: 268435456 is less than") && faults.contains(key), "{faults}");
    }
}
