//! One file out of one URL.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::dial::{dial, tls};
use super::{FetchError, FetchSettings, FetchSetupError, FetchUrl, Resolve, SystemResolver};

const AGENT: HeaderValue = HeaderValue::from_static(concat!("falgate/", env!("CARGO_PKG_VERSION")));

/// Fetches files over HTTP/1.1, one connection each, sending nothing that belongs to the caller or to falgate.
///
/// Cheap to clone; clones share the bound on fetches at the same time. A dropped fetch closes its connection.
#[derive(Clone)]
pub struct Fetcher {
    settings: Arc<FetchSettings>,
    resolver: Arc<dyn Resolve>,
    tls: TlsConnector,
    slots: Arc<Semaphore>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Answer {
    File(Bytes),
    Redirect(FetchUrl),
}

impl Fetcher {
    /// A fetcher that asks the system for addresses.
    ///
    /// # Errors
    /// [`FetchSetupError`] when TLS cannot be set up, for example because of the `ca_file`.
    pub fn new(settings: FetchSettings) -> Result<Self, FetchSetupError> {
        Self::with_resolver(settings, Arc::new(SystemResolver))
    }

    /// A fetcher that asks `resolver` for addresses.
    ///
    /// # Errors
    /// As [`Fetcher::new`].
    pub fn with_resolver(settings: FetchSettings, resolver: Arc<dyn Resolve>) -> Result<Self, FetchSetupError> {
        let tls = tls(settings.ca_file.as_deref())?;
        let slots = Arc::new(Semaphore::new(settings.at_once.get().min(Semaphore::MAX_PERMITS)));
        Ok(Self { settings: Arc::new(settings), resolver, tls, slots })
    }

    /// Fetches the file at `url`, redirects followed.
    ///
    /// # Errors
    /// [`FetchError`]; nothing is dialled for a URL or an address that is not allowed.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        if !self.settings.enabled {
            return Err(FetchError::SwitchedOff);
        }
        let url = FetchUrl::parse(url, &self.settings.ports)?;
        let busy = |_| FetchError::Busy { limit: self.settings.at_once.get() };
        let _slot = self.slots.try_acquire().map_err(busy)?;
        let limit = Duration::from_millis(self.settings.timeout_ms.get());
        match tokio::time::timeout(limit, self.follow(url)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(FetchError::Timeout { limit }),
        }
    }

    async fn follow(&self, mut url: FetchUrl) -> Result<Bytes, FetchError> {
        let limit = self.settings.max_redirects;
        for _ in 0..=limit {
            match self.ask(&url).await? {
                Answer::File(bytes) => return Ok(bytes),
                Answer::Redirect(next) => url = next,
            }
        }
        Err(FetchError::Redirects { limit })
    }

    async fn ask(&self, url: &FetchUrl) -> Result<Answer, FetchError> {
        let stream = dial(url, &*self.resolver, &self.settings, &self.tls).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
        // The connection's own error comes out of the request or the body as well.
        let _connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
        let response = sender.send_request(request(url)?).await.map_err(FetchError::Http)?;
        match response.status() {
            StatusCode::OK => self.read(response.into_body()).await.map(Answer::File),
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => self.next(url, &response).map(Answer::Redirect),
            other => Err(FetchError::Status(other)),
        }
    }

    fn next(&self, url: &FetchUrl, response: &Response<Incoming>) -> Result<FetchUrl, FetchError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or(FetchError::Redirects { limit: self.settings.max_redirects })?;
        url.join(location, &self.settings.ports)
    }

    async fn read(&self, mut body: Incoming) -> Result<Bytes, FetchError> {
        let limit = self.settings.max_bytes.get();
        if body.size_hint().lower() > limit {
            return Err(FetchError::TooLarge { limit });
        }
        let mut file = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(FetchError::Http)?.into_data() else { continue };
            if (file.len() + data.len()) as u64 > limit {
                return Err(FetchError::TooLarge { limit });
            }
            file.extend_from_slice(&data);
        }
        Ok(file.into())
    }
}

fn request(url: &FetchUrl) -> Result<Request<Empty<Bytes>>, FetchError> {
    Request::get(url.path_and_query())
        .header(HOST, url.authority())
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, HeaderValue::from_static("image/*"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .body(Empty::new())
        .map_err(|_| FetchError::Url("it holds a character that no URL has"))
}
