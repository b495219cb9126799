//! The admin listener: metrics, health and limits, on an address of its own that the public never reaches.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tower_service::Service;

use super::health::Readiness;
use crate::guard::{Limits, StoreSilent};
use crate::wire::{Body, Problem};

/// What whoever changes something must send. A page cannot send it to another origin without asking first, and the
/// admin listener lets nobody ask.
pub const ADMIN_HEADER: HeaderName = HeaderName::from_static("x-falgate-admin");

/// Answers `GET /metrics` in OpenMetrics text, `/healthz` and `/readyz`; with limits also `GET /limits`, `GET /limits/KEY`
/// and `DELETE /limits/KEY`, which lets one share off.
#[derive(Debug, Clone)]
pub struct Admin {
    registry: Arc<Registry>,
    readiness: Readiness,
    limits: Option<Limits>,
}

impl Admin {
    /// Shows the metrics of `registry`.
    #[must_use]
    pub const fn new(registry: Arc<Registry>, readiness: Readiness) -> Self {
        Self { registry, readiness, limits: None }
    }

    /// Shows these limits too, and resets them.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
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

    /// What limits did, how one share stands, or that it is let off; `key` is what follows `/limits`.
    async fn limits(&self, request: Request<Body>, key: &str) -> Response<Body> {
        let Some(limits) = &self.limits else { return Problem::not_found(request.uri().path()).into() };
        // A page that was led here by a name of its own is of the same origin, and only its Host tells it.
        if !names_an_address(&request) {
            let why = "ask for limits by the address of the admin listener or as localhost, not by another name";
            return Problem::new(StatusCode::FORBIDDEN, why).into();
        }
        let key = key.strip_prefix('/').filter(|key| !key.is_empty());
        let no_key = || {
            let forms = "caller:NAME, address:ADDRESS, tier:NAME, endpoint:OWNER/ALIAS or all";
            Response::from(Problem::new(StatusCode::BAD_REQUEST, format!("a key is {forms}")))
        };
        let silent = |error: StoreSilent| {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "a share of the limits cannot be read"
            );
            Response::from(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
        };
        match (request.method(), key) {
            (&Method::GET, None) => json(&limits.usage()),
            (&Method::GET, Some(key)) => match limits.standing_now(key).await {
                Ok(standing) => standing.map_or_else(no_key, |standing| json(&standing)),
                Err(error) => silent(error),
            },
            (&Method::DELETE, Some(_))
                if !request.headers().contains_key(ADMIN_HEADER) || request.headers().contains_key(ORIGIN) =>
            {
                let why = format!("a reset needs the header {ADMIN_HEADER}, and is none of a page's");
                Problem::new(StatusCode::FORBIDDEN, why).into()
            }
            (&Method::DELETE, Some(key)) => match limits.let_off(key).await {
                Ok(forgotten) => forgotten.map_or_else(no_key, |limits| {
                    tracing::info!(key, limits, "let off by the admin listener");
                    json(&Forgotten { limits })
                }),
                Err(error) => silent(error),
            },
            (_, None) => Problem::method_not_allowed("GET").into(),
            (_, Some(_)) => Problem::method_not_allowed("GET, DELETE").into(),
        }
    }
}

/// The answer to a reset.
#[derive(Serialize)]
struct Forgotten {
    /// Limits that had something to forget.
    limits: usize,
}

/// Whether the request's `Host` is an address or `localhost`, which no name server of a stranger's can answer for.
fn names_an_address(request: &Request<Body>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority = host.parse::<http::uri::Authority>();
    authority.is_ok_and(|authority| {
        let name = authority.host();
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
    })
}

fn json(value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string(value).expect("texts and numbers always serialise");
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Service<Request<Body>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.method();
        let answer = match request.uri().path() {
            "/metrics" if *method == Method::GET => self.metrics(),
            "/metrics" => Problem::method_not_allowed("GET").into(),
            "/healthz" => Readiness::health(method),
            "/readyz" => self.readiness.ready(method),
            other => match other.strip_prefix("/limits") {
                Some(key) if key.is_empty() || key.starts_with('/') => {
                    let (key, admin) = (key.to_owned(), self.clone());
                    return async move { Ok(admin.limits(request, &key).await) }.boxed();
                }
                _ => Problem::not_found(other).into(),
            },
        };
        ready(Ok(answer)).boxed()
    }
}
