//! One call of the admin listener of a gate that runs.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use falgate::gate::ADMIN_HEADER;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::exit::Failure;

/// Time for the whole call.
const TIME: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const MOST_BYTES: usize = 4 << 20;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Asks the admin listener at an address, and reads its JSON.
pub(super) fn call<T: DeserializeOwned>(address: SocketAddr, method: Method, path: &str) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|cause| Failure::Running { what: "cannot start the threads", cause: cause.into() })?;
    let asked = runtime.block_on(async { timeout(TIME, ask(address, method, path)).await });
    let cannot_reach = |cause: Cause| Failure::Unavailable {
        what: format!("the admin listener at {address} (gate.admin) does not answer"),
        cause: Some(cause),
    };
    let (status, bytes) = asked.map_err(|late| cannot_reach(late.into()))?.map_err(cannot_reach)?;
    let no_gate = |cause| Failure::Unavailable {
        what: format!("what answers at {address} is no admin listener of this version"),
        cause,
    };
    match status {
        StatusCode::OK => serde_json::from_slice(&bytes).map_err(|cause| no_gate(Some(cause.into()))),
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN | StatusCode::SERVICE_UNAVAILABLE => {
            let detail = serde_json::from_slice::<Value>(&bytes).ok();
            let detail = detail.and_then(|body| Some(body.get("detail")?.as_str()?.to_owned()));
            Err(match detail {
                None => no_gate(None),
                Some(what) if status == StatusCode::SERVICE_UNAVAILABLE => Failure::Unavailable { what, cause: None },
                Some(what) => Failure::Usage { what },
            })
        }
        _ => Err(no_gate(None)),
    }
}

async fn ask(address: SocketAddr, method: Method, path: &str) -> Result<(StatusCode, Bytes), Cause> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the runtime, which lives for this one call.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let request = request.header(ADMIN_HEADER, "1").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await?;
    Ok((status, body.to_bytes()))
}
