//! Fetching reaches what the caller could reach himself, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use falgate::host::HostSettings;
use falgate::host::fetch::{FetchError, FetchSettings, Fetcher};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::host_desk::{Desk, Names, input_with, loopback, png};

/// A server that answers every connection with what `answer` makes of the request's head.
struct Server {
    address: SocketAddr,
    hits: Arc<AtomicUsize>,
}

impl Server {
    async fn open(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hits = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&hits);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let head = read_head(&mut stream).await;
                let _ = stream.write_all(&answer(&head)).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, hits }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

async fn read_head(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn file(body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn fetcher(settings: FetchSettings, names: &[(&str, &[&str])]) -> Fetcher {
    Fetcher::with_resolver(settings, Names::of(names)).unwrap()
}

#[tokio::test]
async fn a_public_name_is_fetched_with_nothing_of_the_callers() {
    let server = Server::open(|head| file(head.as_bytes())).await;
    let settings = loopback(server.port());
    let fetcher = fetcher(settings, &[("cdn.example", &["127.0.0.1"])]);
    let got = fetcher.fetch(&format!("http://cdn.example:{}/a/b.png?x=1#frag", server.port())).await.unwrap();
    let head = String::from_utf8(got.to_vec()).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /a/b.png?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: cdn.example:{}\r\n", server.port())), "{head}");
    for absent in ["authorization", "cookie", "referer", "x-fal", "forwarded", "frag"] {
        assert!(!head.contains(absent), "{head}");
    }
}

#[tokio::test]
async fn private_addresses_are_never_dialled_however_they_are_spelled() {
    let server = Server::open(|_| file(b"secret")).await;
    let port = server.port();
    // No allowed network: this machine is private, as in production.
    let settings = FetchSettings { ports: vec![80, port], ..FetchSettings::default() };
    let names: &[(&str, &[&str])] = &[
        ("rebind.example", &["127.0.0.1"]),
        ("half.example", &["93.184.216.34", "127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("nat64.example", &["64:ff9b::7f00:1"]),
        ("sixtofour.example", &["2002:7f00:1::"]),
        ("metadata.example", &["169.254.169.254"]),
        ("zero.example", &["0.0.0.0"]),
        ("cgnat.example", &["100.64.1.1"]),
        ("localhost", &["127.0.0.1", "::1"]),
    ];
    let fetcher = fetcher(settings, names);
    let hosts = names.iter().map(|(name, _)| (*name).to_owned()).chain(
        [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::]",
            "0",
            "[::ffff:7f00:1]",
        ]
        .map(str::to_owned),
    );
    for host in hosts {
        let refused = fetcher.fetch(&format!("http://{host}:{port}/")).await.unwrap_err();
        assert!(matches!(refused, FetchError::NotPublic), "{host}: {refused:?}");
    }
    assert_eq!(server.hits(), 0);
}

#[tokio::test]
async fn a_redirect_is_followed_and_each_hop_is_checked_again() {
    let server = Server::open(|head| match head.split(' ').nth(1).unwrap() {
        "/one" => redirect("/two"),
        "/two" => redirect("three?x=1"),
        "/three?x=1" => file(b"here"),
        "/private" => redirect("http://192.168.0.1/x"),
        "/metadata" => redirect("http://metadata.example/x"),
        "/file" => redirect("file:///etc/passwd"),
        "/port" => redirect("http://cdn.example:22/"),
        "/login" => redirect("http://user:pw@cdn.example/"),
        "/nowhere" => b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => redirect("/loop"),
    })
    .await;
    let names: &[(&str, &[&str])] = &[("cdn.example", &["127.0.0.1"]), ("metadata.example", &["169.254.169.254"])];
    let fetcher = fetcher(loopback(server.port()), names);
    let get = |path: &'static str| fetcher.fetch_at(server.port(), path);
    assert_eq!(get("/one").await.unwrap(), "here");
    assert!(matches!(get("/private").await, Err(FetchError::NotPublic)));
    assert!(matches!(get("/metadata").await, Err(FetchError::NotPublic)));
    for path in ["/file", "/port", "/login"] {
        assert!(matches!(get(path).await, Err(FetchError::Url(_))), "{path}");
    }
    assert!(matches!(get("/nowhere").await, Err(FetchError::Redirects { .. })));
    let before = server.hits();
    assert!(matches!(get("/loop").await, Err(FetchError::Redirects { limit: 5 })));
    assert_eq!(server.hits() - before, 6, "the first request and five redirects");
}

trait FetchAt {
    fn fetch_at(&self, port: u16, path: &'static str) -> impl Future<Output = Result<bytes::Bytes, FetchError>>;
}

impl FetchAt for Fetcher {
    async fn fetch_at(&self, port: u16, path: &'static str) -> Result<bytes::Bytes, FetchError> {
        self.fetch(&format!("http://cdn.example:{port}{path}")).await
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_announced_or_not() {
    let server = Server::open(|head| match head.split(' ').nth(1).unwrap() {
        "/announced" => b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec(),
        "/silent" => [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[7; 5000]].concat(),
        "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_vec(),
        "/missing" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        _ => b"SSH-2.0-OpenSSH\r\n".to_vec(),
    })
    .await;
    let settings = FetchSettings { max_bytes: 1000.try_into().unwrap(), ..loopback(server.port()) };
    let fetcher = fetcher(settings, &[("cdn.example", &["127.0.0.1"])]);
    let get = |path: &'static str| fetcher.fetch_at(server.port(), path);
    for path in ["/announced", "/silent"] {
        assert!(matches!(get(path).await, Err(FetchError::TooLarge { limit: 1000 })), "{path}");
    }
    assert!(matches!(get("/cut").await, Err(FetchError::Http(_))));
    assert!(matches!(get("/missing").await, Err(FetchError::Status(status)) if status == 404));
    assert!(matches!(get("/ssh").await, Err(FetchError::Http(_))));
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_deadline_and_bounded_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings =
        FetchSettings { timeout_ms: 200.try_into().unwrap(), at_once: 1.try_into().unwrap(), ..loopback(port) };
    let fetcher = fetcher(settings, &[("cdn.example", &["127.0.0.1"])]);
    let slow = tokio::spawn({
        let fetcher = fetcher.clone();
        async move { fetcher.fetch_at(port, "/").await }
    });
    let (_silent, _) = listener.accept().await.unwrap();
    assert!(matches!(fetcher.fetch_at(port, "/").await, Err(FetchError::Busy { limit: 1 })));
    let given_up = slow.await.unwrap();
    assert!(matches!(given_up, Err(FetchError::Timeout { limit }) if limit == Duration::from_millis(200)));
}

#[tokio::test]
async fn https_is_fetched_under_a_configured_authority_and_no_other() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["cdn.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_head(&mut stream).await;
                let _ = stream.write_all(&file(b"over tls")).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).unwrap();
    let names: &[(&str, &[&str])] = &[("cdn.example", &["127.0.0.1"]), ("other.example", &["127.0.0.1"])];
    let trusting = fetcher(FetchSettings { ca_file: Some(ca), ..loopback(port) }, names);
    assert_eq!(trusting.fetch(&format!("https://cdn.example:{port}/")).await.unwrap(), "over tls");
    let other_name = trusting.fetch(&format!("https://other.example:{port}/")).await;
    assert!(matches!(other_name, Err(FetchError::Connect(_))));
    let plain = fetcher(loopback(port), names).fetch(&format!("https://cdn.example:{port}/")).await;
    assert!(matches!(plain, Err(FetchError::Connect(_))));
}

#[test]
fn a_ca_file_that_cannot_be_used_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for path in [folder.path().join("absent.pem"), empty] {
        let settings = FetchSettings { ca_file: Some(path.clone()), ..FetchSettings::default() };
        let said = Fetcher::new(settings).err().unwrap().to_string();
        assert!(said.contains(&path.display().to_string()) && said.contains("host.fetch.ca_file"), "{said}");
    }
}

#[tokio::test]
async fn a_run_takes_its_picture_from_a_url() {
    let picture = png(64, 64);
    let server = Server::open(move |head| match head.split(' ').nth(1).unwrap() {
        "/cat.png" => file(&picture),
        "/page" => file(b"<!doctype html><p>hello"),
        _ => b"HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nsecret".to_vec(),
    })
    .await;
    let port = server.port();
    let desk =
        Desk::with_fetcher(HostSettings::default(), fetcher(loopback(port), &[("cdn.example", &["127.0.0.1"])])).await;
    let url = |path: &str| input_with(json!({ "image_url": format!("http://cdn.example:{port}{path}") }));
    assert_eq!(desk.run(&url("/cat.png")).await.status, 200);
    let page = desk.run(&url("/page")).await.fault();
    assert!(page["msg"].as_str().unwrap().contains("no JPEG, PNG, WebP or GIF"), "{page}");
    let denied = desk.run(&url("/denied?token=secret")).await;
    assert!(denied.fault()["msg"].as_str().unwrap().ends_with("/denied (its server answered 403)"));
    assert!(!String::from_utf8_lossy(&denied.body).contains("secret"));
}

#[tokio::test]
async fn fetching_can_be_switched_off() {
    let settings = FetchSettings { enabled: false, ..FetchSettings::default() };
    let desk = Desk::with(HostSettings { fetch: settings, ..HostSettings::default() }).await;
    let fault = desk.run(&input_with(json!({ "image_url": "https://a.example/x.png" }))).await.fault();
    assert_eq!(fault["type"], "feature_not_supported");
}
