//! The connections to fal: made, kept and shared. The only file that knows how.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper_util::client::legacy::{Client, Error, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::Address;
use super::dial::{DialTimeout, Dialer, tcp};
use super::error::{ClientError, UpstreamError};
use super::metrics::UpstreamMetrics;
use super::plain::PlainPool;
use super::sent_body::SentBody;
use super::settings::UpstreamSettings;

/// Largest head that is read, and most bytes of a body that wait here for a slow reader on HTTP/1.1.
pub(super) const HTTP1_BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes of one body that wait here for a slow reader on HTTP/2.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Connections to fal, HTTP/1.1 or HTTP/2 as the other side offers.
///
/// Addresses without TLS have pools of their own kind: what is spoken there needs no negotiation.
#[derive(Clone)]
pub(super) struct Pool {
    secure: Client<Dialer, SentBody>,
    plain: Arc<[PlainPool]>,
}

impl Pool {
    pub(super) fn new(settings: &UpstreamSettings, metrics: UpstreamMetrics) -> Result<Self, ClientError> {
        let limit = Duration::from_millis(settings.connect_timeout_ms.get());
        let mut plain: Vec<PlainPool> = Vec::new();
        let named = &settings.addresses;
        for address in [&named.run, &named.queue, &named.rest] {
            if address.is_plain() && !plain.iter().any(|pool| pool.address() == address) {
                plain.push(PlainPool::new(address, tcp(), settings, metrics.clone()));
            }
        }
        let dialer = Dialer::new(tls(settings.ca_file.as_deref())?, limit, metrics);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(settings.keep_alive_ms.get()))
            .pool_max_idle_per_host(settings.keep_connections.get())
            // Only what never left this machine is sent again: a call that fal may have read is never repeated.
            .retry_canceled_requests(true)
            .http1_max_buf_size(HTTP1_BUFFER_BYTES)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_send_buf_size(SEND_BUFFER_BYTES)
            .http2_max_header_list_size(HEADER_LIST_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(dialer);
        Ok(Self { secure: client, plain: plain.into() })
    }

    /// The pool of an address without TLS.
    pub(super) fn plain(&self, address: &Address) -> Option<&PlainPool> {
        self.plain.iter().find(|pool| pool.address() == address)
    }

    /// Sends a request with an absolute URI, over TLS. Dropping the future cancels it.
    pub(super) fn send(&self, request: Request<SentBody>) -> ResponseFuture {
        self.secure.request(request)
    }
}

/// Sorts out what the pool complains of.
pub(super) fn explain(error: Error) -> UpstreamError {
    if !error.is_connect() {
        return UpstreamError::Broken(error.into());
    }
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        if let Some(DialTimeout(after)) = inner.downcast_ref() {
            return UpstreamError::ConnectTimeout { after: *after };
        }
        cause = inner.source();
    }
    UpstreamError::Connect(error.into())
}

/// What TLS to fal trusts.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|cause| ClientError::CaFile { path: path.to_owned(), cause })?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(ClientError::NoCertificate { path: path.to_owned() });
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(config.map_err(ClientError::Tls)?.with_root_certificates(roots).with_no_client_auth())
}
