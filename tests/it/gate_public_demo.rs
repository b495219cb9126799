//! `config/public-demo.toml` as it is, served: visitors, windows, sockets and the day's money over real connections.

use std::net::SocketAddr;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::engine_support::within;
use crate::gate_support::{FAL_KEY, Line, PROXY, asked};
use crate::host_desk::Answer;
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::program::Program;

const APP: &str = "fal-ai/fast-lcm-diffusion/image-to-image";
const PAGE: &str = "https://draw.example";

/// The demo, with fal at `url`, no admin listener, and a log for eyes.
fn demo(url: &str) -> String {
    let mut text = include_str!("../../config/public-demo.toml").to_owned();
    for line in ["admin = \"127.0.0.1:9787\"\n", "format = \"json\"\n"] {
        assert!(text.contains(line), "{line}");
        text = text.replace(line, "");
    }
    format!(
        "{text}\n[upstream]\nallow_plain_loopback = true\n\
         addresses = {{ run = \"{url}\", queue = \"{url}\", rest = \"{url}\" }}\n"
    )
}

/// Somebody's page, as the web server in front of the gate passes it on.
struct Visitor {
    gate: SocketAddr,
    address: &'static str,
    cookie: Option<String>,
}

impl Visitor {
    const fn new(gate: SocketAddr, address: &'static str) -> Self {
        Self { gate, address, cookie: None }
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("x-forwarded-for", self.address), ("origin", PAGE)];
        headers.extend(self.cookie.as_deref().map(|cookie| ("cookie", cookie)));
        headers
    }

    async fn run(&mut self, input: Value) -> Answer {
        let target = format!("https://fal.run/{APP}");
        let mut headers = self.headers();
        headers.extend([("content-type", "application/json"), ("x-fal-target-url", &*target)]);
        let answer = Line::to(self.gate).await.send(asked(Method::POST, PROXY, &headers, input.to_string())).await;
        if let Some(cookie) = answer.headers.get("set-cookie") {
            self.cookie = cookie.to_str().unwrap().split(';').next().map(str::to_owned);
        }
        answer
    }

    async fn token(&self) -> String {
        let path = format!("/api/fal/token?app={APP}");
        let answer = Line::to(self.gate).await.send(asked(Method::GET, &path, &self.headers(), "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json().as_str().unwrap().to_owned()
    }

    /// Opens a socket: its connection, and the status of the handshake.
    async fn socket(&self, token: &str) -> (TcpStream, u16) {
        let headers: String = self.headers().into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET /{APP}/realtime?fal_jwt_token={token} HTTP/1.1\r\nhost: gate\r\n{headers}connection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = within(TcpStream::connect(self.gate)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        within(stream.read_exact(&mut line)).await.unwrap();
        let status = String::from_utf8_lossy(&line[9..]).parse().unwrap();
        (stream, status)
    }
}

#[tokio::test]
async fn the_public_demo_is_served_as_its_file_says() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let mut gate = Program::start_in(folder.path(), &demo(&fal.url()), &[("FAL_KEY", FAL_KEY)]);
    let at = gate.address().await;

    // A visitor is known from the second call on; fal gets the key, and neither the cookie nor a second picture.
    let mut ann = Visitor::new(at, "203.0.113.7");
    let first = ann.run(json!({"prompt": "a boat", "num_inference_steps": 50})).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert!(first.header("set-cookie").contains("; Secure"), "pages come over TLS");
    assert_eq!(first.header("access-control-allow-origin"), PAGE);
    assert!(ann.run(json!({"prompt": "a boat"})).await.headers.get("set-cookie").is_none());
    let seen = fal.seen();
    assert_eq!((seen[0].header("authorization"), seen[0].header("cookie")), (Some(&*format!("Key {FAL_KEY}")), None));
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!((&body["num_images"], &body["num_inference_steps"]), (&json!(1), &json!(8)));
    assert_eq!(ann.run(json!({"prompt": "a boat", "num_images": 4})).await.status, 422);

    // The windows: a burst of ten, of which three are gone, and another address that has all of it.
    let mut refused = None;
    for _ in 0..60 {
        let answer = ann.run(json!({"prompt": "a boat"})).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("five a second and ten at once are far below sixty");
    assert!(refused.header("ratelimit").contains("\"second\";r=0;t="), "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(Visitor::new(at, "198.51.100.9").run(json!({"prompt": "a boat"})).await.status, 200);

    // Behind one address: several first pages, four in all; and one socket for each visitor who is known.
    let newcomers = Visitor::new(at, "192.0.2.4");
    let mut held = Vec::new();
    for token in [newcomers.token().await, newcomers.token().await] {
        for _ in 0..2 {
            let (socket, status) = newcomers.socket(&token).await;
            assert_eq!(status, 101, "somebody's first page behind the same address");
            held.push(socket);
        }
    }
    assert_eq!(newcomers.socket(&newcomers.token().await).await.1, 429, "a fifth of one address");
    let mut page = Visitor::new(at, "192.0.2.5");
    page.run(json!({"prompt": "a boat"})).await;
    let token = page.token().await;
    let (socket, status) = page.socket(&token).await;
    assert_eq!((status, page.socket(&token).await.1), (101, 429), "a second one of the same visitor");
    held.push(socket);
    drop(held);
    drop(gate);
    assert!(folder.path().join("state/limits.redb").exists(), "what was spent is kept");
}
