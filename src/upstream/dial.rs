//! Makes one connection: TCP and TLS under one deadline.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::line::Line;
use super::metrics::UpstreamMetrics;
use crate::wire::BodyError;

type Secure = HttpsConnector<HttpConnector>;
type Dialled = Line<<Secure as Service<Uri>>::Response>;

/// Connects, and gives up at the deadline.
#[derive(Clone)]
pub(super) struct Dialer {
    inner: Secure,
    limit: Duration,
    metrics: UpstreamMetrics,
}

/// The deadline of a dial passed.
#[derive(Debug, thiserror::Error)]
#[error("no connection after {} ms", .0.as_millis())]
pub(super) struct DialTimeout(pub(super) Duration);

/// Connects sockets that send at once and notice a dead peer.
pub(super) fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp
}

impl Dialer {
    pub(super) fn new(tls: rustls::ClientConfig, limit: Duration, metrics: UpstreamMetrics) -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
        let inner = connector.https_or_http().enable_all_versions().wrap_connector(tcp());
        Self { inner, limit, metrics }
    }
}

impl Service<Uri> for Dialer {
    type Response = Dialled;
    type Error = BodyError;
    type Future = Pin<Box<dyn Future<Output = Result<Dialled, BodyError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let began = Instant::now();
        let limit = self.limit;
        let metrics = self.metrics.clone();
        let dialling = timeout(limit, self.inner.call(to));
        Box::pin(async move {
            let dialled = dialling.await.map_err(|_| DialTimeout(limit))??;
            metrics.connected(began.elapsed());
            Ok(Line::new(dialled))
        })
    }
}
