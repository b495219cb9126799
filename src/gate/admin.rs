//! The admin listener: metrics and health, on an address of its own that the public never reaches.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Ready, ready};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tower_service::Service;

use super::health::Readiness;
use crate::wire::{Body, Problem};

/// Answers `GET /metrics` in OpenMetrics text, `/healthz` and `/readyz`.
#[derive(Debug, Clone)]
pub struct Admin {
    registry: Arc<Registry>,
    readiness: Readiness,
}

impl Admin {
    /// Shows the metrics of `registry`.
    #[must_use]
    pub const fn new(registry: Arc<Registry>, readiness: Readiness) -> Self {
        Self { registry, readiness }
    }

    fn metrics(&self) -> Response<Body> {
        let mut text = String::with_capacity(8 * 1024);
        if encode(&mut text, &self.registry).is_err() {
            return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written").into();
        }
        let mut response = Response::new(Body::from(text));
        let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, openmetrics);
        response
    }
}

impl Service<Request<Body>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method();
        ready(Ok(match request.uri().path() {
            "/metrics" if *method == Method::GET => self.metrics(),
            "/metrics" => Problem::method_not_allowed("GET").into(),
            "/healthz" => Readiness::health(method),
            "/readyz" => self.readiness.ready(method),
            other => Problem::not_found(other).into(),
        }))
    }
}
