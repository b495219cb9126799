//! Carries the guard's questions: to whoever issues tokens, to the application, and to whoever checks for people.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::guard::{AskKeys, AskedKeys, Inquire, Inquiry};

/// Time for a whole answer. Whoever asks for a session or a person has a shorter one.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest answer: a set of 64 keys has some 50 KiB.
const ANSWER_BYTES: usize = 256 * 1024;
/// Connections that are kept to one host while nobody asks, and how long.
const KEPT: usize = 8;
const KEPT_FOR: Duration = Duration::from_secs(30);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("falgate/", env!("CARGO_PKG_VERSION")));

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InquirerError {
    /// The authorities to trust beside the web's cannot be read.
    #[error("cannot read {} (guard.identity.ca_file)", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: BoxError,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// Sends questions. Clones share their connections.
///
/// It goes where the configuration says and nowhere else: no redirect is followed, and no proxy of the environment's is
/// used. An answer is bounded in time and bytes; a dropped question is cancelled.
#[derive(Clone)]
pub(super) struct Inquirer(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Inquirer {
    /// Trusts the web's authorities and those of `ca_file`.
    pub(super) fn new(ca_file: Option<&Path>) -> Result<Self, InquirerError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(LIMIT));
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls(ca_file)?);
        let connector = connector.https_or_http().enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .pool_max_idle_per_host(KEPT)
            .build(connector);
        Ok(Self(client))
    }

    async fn ask(self, request: Request<Bytes>) -> Result<Response<Bytes>, BoxError> {
        let mut request = request.map(Full::new);
        request.headers_mut().insert(USER_AGENT, AGENT);
        request.headers_mut().remove(HOST);
        let asked = async {
            let (parts, body) = self.0.request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        tokio::time::timeout(LIMIT, asked).await.map_err(|late| -> BoxError { late.into() })?
    }
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, InquirerError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add(&mut roots, path).map_err(|cause| InquirerError::CaFile { path: path.to_owned(), cause })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config.map_err(InquirerError::Tls)?.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), BoxError> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
    }
    if roots.len() == before { Err("it holds no certificate".into()) } else { Ok(()) }
}

impl Inquire for Inquirer {
    fn inquire(&self, request: Request<Bytes>) -> Inquiry {
        Box::pin(self.clone().ask(request))
    }
}

impl AskKeys for Inquirer {
    fn ask(&self, url: &str) -> AskedKeys {
        let request = Request::get(url).header(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
        let (request, inquirer) = (request.body(Bytes::new()), self.clone());
        Box::pin(async move {
            let answer = inquirer.ask(request?).await?;
            match answer.status() {
                StatusCode::OK => Ok(answer.into_body()),
                other => Err(format!("the answer is {other}").into()),
            }
        })
    }
}
