//! The same doubtful requests at falgate and at nginx: `docs/SECURITY.md` states each difference.
//!
//! Where nginx is not installed there is nothing to compare with.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use falgate::gate::accept::LimitSettings;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::edge_probe::Gate;
use crate::framing_corpus::everything;

struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
    version: String,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Nginx {
    /// Starts it in front of `port`; none where it is not installed.
    fn start(port: u16) -> Option<Self> {
        let program = find("nginx")?;
        let version = Command::new(&program).arg("-v").output().ok()?.stderr;
        let version = String::from_utf8_lossy(&version).trim().rsplit('/').next().unwrap_or_default().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let places: String = places.iter().map(|place| format!("{place}_temp_path {at}/{place}; ")).collect();
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log /dev/null crit; events {{}}\n\
             http {{ access_log off; {places}\n\
             server {{ listen unix:{at}/socket; location / {{ proxy_pass http://127.0.0.1:{port}; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { process, folder, version })
    }

    async fn connect(&self) -> UnixStream {
        let path = self.folder.path().join("socket");
        let connecting = async {
            loop {
                match UnixStream::connect(&path).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(Duration::from_secs(10), connecting).await.expect("nginx listens")
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A server behind nginx that takes every request to its end.
async fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(async |request: Request<hyper::body::Incoming>| {
                let read = request.into_body().collect().await;
                let said = if read.is_ok() { "read" } else { "broken" };
                Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from(said)))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

/// The status of the first answer, `closed` for none, `waits` for neither.
async fn outcome(mut socket: impl AsyncRead + AsyncWrite + Unpin, bytes: &str) -> String {
    // Whoever refuses may close before all of it is written.
    let _ = socket.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let reading = async {
        while !answer.ends_with(b"\r\n") {
            match socket.read_u8().await {
                Ok(byte) => answer.push(byte),
                Err(_) => break,
            }
        }
    };
    if timeout(Duration::from_secs(2), reading).await.is_err() {
        return "waits".to_owned();
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    match text.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)) {
        Some(status) => status.trim().to_owned(),
        None if text.is_empty() => "closed".to_owned(),
        // HTTP/0.9 has no status.
        None => "200".to_owned(),
    }
}

#[tokio::test]
async fn no_doubt_is_refused_by_nginx_and_taken_here() {
    let Some(nginx) = Nginx::start(backend().await) else { return println!("skipped: nginx is not installed") };
    let gate = Gate::start(&LimitSettings::default());
    let mut differences = Vec::new();
    for (what, bytes) in everything() {
        let ours = outcome(TcpStream::connect(gate.address).await.unwrap(), &bytes).await;
        let theirs = outcome(nginx.connect().await, &bytes).await;
        assert!(ours == "closed" || ours.starts_with('4') || ours.starts_with('5'), "{what}: {ours}");
        if ours != theirs {
            differences.push(format!("| {what} | {ours} | {theirs} |"));
        }
    }
    let table = differences.join("\n");
    println!("nginx {}\n{table}", nginx.version);
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SECURITY.md")).unwrap();
    let (_, part) = page.split_once("<!-- nginx ").expect("the page marks its table");
    let (version, part) = part.split_once(" -->\n").unwrap();
    let (told, _) = part.split_once("\n<!-- /nginx -->").expect("the page marks the end of its table");
    if version != nginx.version {
        return println!("skipped: the table is of nginx {version}, this is {}", nginx.version);
    }
    assert_eq!(told.split_once("|---|---|---|\n").map(|(_, rows)| rows), Some(table.as_str()));
}
