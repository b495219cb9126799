//! Row "HTTP/2" of the security table, and the parity of HTTP/2 requests with HTTP/1 ones.

use bytes::Bytes;
use falgate::gate::accept::{DrainSettings, EdgeServer};
use falgate::gate::accept::{LimitSettings, TlsKeeper, TlsSettings};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
