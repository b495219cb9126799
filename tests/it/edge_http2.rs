//! Row "HTTP/2" of the security table, and the parity of HTTP/2 requests with HTTP/1 ones.

use std::time::Duration;

use bytes::Bytes;
use falgate::gate::accept::{DrainSettings, EdgeServer};
use falgate::gate::accept::{LimitSettings, TlsKeeper, TlsSettings};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::edge_probe::{Gate, in_memory};

async fn client(limits: &LimitSettings) -> SendRequest<Full<Bytes>> {
    let (client, _) = in_memory(limits, 256 * 1024);
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn requests_are_served_on_plain_tcp_by_their_preface() {
    let mut sender = client(&LimitSettings::default()).await;
    let request = Request::post("http://gate.test/a?b=c")
        .header("x_forwarded_for", "6.6.6.6")
        .header("x-ok", "1")
        .body(Full::from("hello"))
        .unwrap();
    let (status, body) = ask(&mut sender, request).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with("POST http://gate.test/a?b=c [content-length host x-ok] hello"), "{body}");
}

#[tokio::test]
async fn what_is_refused_on_http1_is_refused_here() {
    let mut sender = client(&LimitSettings::default()).await;
    for (what, request, status) in [
        ("TRACE", Request::builder().method("TRACE"), StatusCode::METHOD_NOT_ALLOWED),
        ("PURGE", Request::builder().method("PURGE"), StatusCode::METHOD_NOT_ALLOWED),
        ("two hosts", Request::builder().header("host", "other.test"), StatusCode::BAD_REQUEST),
        (
            "fields",
            (0..101).fold(Request::builder(), |request, at| request.header(format!("x-{at}"), "1")),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ),
    ] {
        let request = request.uri("http://gate.test/").body(Full::default()).unwrap();
        let (refused, body) = ask(&mut sender, request).await;
        assert_eq!(refused, status, "{what}: {body}");
        assert!(body.starts_with("{\"detail\":"), "{what}: {body}");
    }
    let (status, _) = ask(&mut sender, Request::get("http://gate.test/alive").body(Full::default()).unwrap()).await;
    assert_eq!(status, StatusCode::OK, "the connection serves on");
}

#[tokio::test]
async fn a_header_list_beyond_the_limit_is_refused() {
    let mut sender = client(&LimitSettings::default()).await;
    let request = Request::get("http://gate.test/").header("x-long", "y".repeat(60_000)).body(Full::default()).unwrap();
    match sender.send_request(request).await {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(!error.is_canceled(), "{error}"),
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET /`, host `a`, from HPACK's static table.
const GET: [u8; 6] = [0x82, 0x84, 0x86, 0x41, 0x01, b'a'];
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn raw(limits: &LimitSettings) -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (mut client, served) = in_memory(limits, 1024 * 1024);
    client.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    (client, served)
}

/// Reads frames until the connection ends; the error codes of its GOAWAYs.
async fn goaways(mut client: DuplexStream) -> Vec<u32> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = client.read_to_end(&mut bytes).await;
    let mut codes = Vec::new();
    let mut rest = &bytes[..];
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 && rest.len() >= 17 {
            codes.push(u32::from_be_bytes([rest[13], rest[14], rest[15], rest[16]]));
        }
        rest = &rest[(9 + length).min(rest.len())..];
    }
    codes
}

const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn fields_of_a_connection_reset_their_stream() {
    for (name, value) in [("te", "gzip"), ("transfer-encoding", "chunked"), ("connection", "close"), ("upgrade", "a")] {
        let (mut client, _) = raw(&LimitSettings::default()).await;
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let head = [&GET[..], &[0x40, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat();
        client.write_all(&frame(1, 0x5, 1, &head)).await.unwrap();
        let mut bytes = [0; 9];
        loop {
            client.read_exact(&mut bytes).await.unwrap();
            let mut payload = vec![0; usize::from(bytes[1]) << 8 | usize::from(bytes[2])];
            client.read_exact(&mut payload).await.unwrap();
            // The first frame for stream 1 is a reset, or the head of a 400.
            if bytes[8] == 1 {
                let refused = bytes[3] == 3 || (bytes[3] == 1 && payload[0] == 0x8c);
                assert!(refused, "{name}: {bytes:?} {payload:?}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_rapid_reset_flood_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    let mut flood = Vec::new();
    for stream in (1..4001).step_by(2) {
        flood.extend(frame(1, 0x5, stream, &GET));
        flood.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // The gate may be gone before all of it is written.
    let _ = client.write_all(&flood).await;
    assert!(goaways(client).await.contains(&ENHANCE_YOUR_CALM));
    served.await.unwrap();
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    let mut flood = frame(1, 0x1, 1, &GET);
    let field = [&[0x40, 0x01, b'x', 0x7f, 0x81, 0x06][..], &[b'y'; 256]].concat();
    for _ in 0..2000 {
        flood.extend(frame(9, 0, 1, &field));
    }
    let _ = client.write_all(&flood).await;
    assert!(!goaways(client).await.is_empty());
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_window_that_stays_shut_ends_the_connection() {
    let (mut client, served) = raw(&LimitSettings::default()).await;
    // `GET /big`; the answer has 8 MiB, the window 64 KiB, and nobody opens it. Pings are answered below.
    let path = [&[0x82, 0x86, 0x41, 0x01, b'a', 0x44, 0x04][..], b"/big"].concat();
    client.write_all(&frame(1, 0x5, 1, &path)).await.unwrap();
    let (mut read, mut write) = tokio::io::split(client);
    let pongs = tokio::spawn(async move {
        let mut head = [0; 9];
        while read.read_exact(&mut head).await.is_ok() {
            let mut payload = vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            if read.read_exact(&mut payload).await.is_err() {
                break;
            }
            let answer = match (head[3], head[4] & 1) {
                (6, 0) => frame(6, 1, 0, &payload),
                (4, 0) => frame(4, 1, 0, &[]),
                _ => continue,
            };
            if write.write_all(&answer).await.is_err() {
                break;
            }
        }
    });
    let started = tokio::time::Instant::now();
    served.await.unwrap();
    // Thirty seconds of patience, and as long for others on the connection to finish.
    assert!((60..=80).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    pongs.abort();
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_requests_is_ended() {
    let (client, served) = raw(&LimitSettings::default()).await;
    let started = tokio::time::Instant::now();
    served.await.unwrap();
    assert!(started.elapsed() <= Duration::from_secs(110), "{:?}", started.elapsed());
    drop(client);
}

#[tokio::test]
async fn tls_offers_both_protocols_and_a_reload_changes_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let settings = TlsSettings { cert_file: folder.path().join("cert.pem"), key_file: folder.path().join("key.pem") };
    let write_pair = || {
        let pair = rcgen::generate_simple_self_signed(vec!["gate.test".to_owned()]).unwrap();
        std::fs::write(&settings.cert_file, pair.cert.pem()).unwrap();
        std::fs::write(&settings.key_file, pair.signing_key.serialize_pem()).unwrap();
        pair.cert.der().clone()
    };
    let first = write_pair();
    let keeper = TlsKeeper::open(settings.clone()).unwrap();
    let limits = LimitSettings::default();
    let server = EdgeServer::new(limits.clone(), DrainSettings::default()).with_tls(keeper.clone());
    let gate = Gate::start_server(server, &limits);
    let connect = |root: rustls::pki_types::CertificateDer<'static>, alpn: &[u8]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let address = gate.address;
        async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
            connector.connect("gate.test".try_into().unwrap(), stream).await
        }
    };
    let mut http1 = connect(first.clone(), b"http/1.1").await.unwrap();
    http1.write_all(b"GET /tls HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    http1.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("GET /tls [connection host] "), "{answer}");

    let http2 = connect(first.clone(), b"h2").await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(http2)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://gate.test/h2").body(Full::default()).unwrap();
    assert_eq!(ask(&mut sender, request).await.0, StatusCode::OK);

    std::fs::write(&settings.key_file, "no key").unwrap();
    assert!(keeper.reload().is_err(), "a bad pair is refused");
    assert!(connect(first.clone(), b"h2").await.is_ok(), "and the old one stays");
    let second = write_pair();
    keeper.reload().unwrap();
    assert!(connect(second, b"h2").await.is_ok());
    assert!(connect(first, b"h2").await.is_err());
    let request = Request::get("https://gate.test/h2").body(Full::default()).unwrap();
    assert_eq!(ask(&mut sender, request).await.0, StatusCode::OK, "open connections go on");
}
