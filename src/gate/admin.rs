//! The admin listener: metrics, health and limits, on an address of its own that the public never reaches.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tower_service::Service;

use super::health::Readiness;
use crate::guard::{LimitError, Limits};
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

    /// What limits did, how one share stands, or that it is let off.
    async fn limits(&self, asked: &Asked) -> Response<Body> {
        let Some(limits) = &self.limits else { return Problem::not_found(&asked.path).into() };
        // A page that was led here by a name of its own is of the same origin, and only its Host tells it.
        if !asked.names_an_address {
            let why = "ask for limits by the address of the admin listener or as localhost, not by another name";
            return Problem::new(StatusCode::FORBIDDEN, why).into();
        }
        let key = asked.path.strip_prefix("/limits/").filter(|key| !key.is_empty());
        match (&asked.method, key) {
            (&Method::GET, None) => json(&limits.usage()),
            (&Method::GET, Some(key)) => match limits.standing_soon(key).await {
                Ok(standing) => standing.map_or_else(no_key, |standing| json(&standing)),
                Err(error) => no_store(&error),
            },
            (&Method::DELETE, Some(_)) if !asked.may_change => {
                let why = format!("a reset needs the header {ADMIN_HEADER}, and is none of a page's");
                Problem::new(StatusCode::FORBIDDEN, why).into()
            }
            (&Method::DELETE, Some(key)) => match limits.reset_soon(key).await {
                Ok(Some(limits)) => {
                    tracing::info!(key, limits, "let off by the admin listener");
                    json(&Forgotten { limits })
                }
                Ok(None) => no_key(),
                Err(error) => no_store(&error),
            },
            (_, None) => Problem::method_not_allowed("GET").into(),
            (_, Some(_)) => Problem::method_not_allowed("GET, DELETE").into(),
        }
    }
}

/// What is asked about limits: all of a request that is needed while a store is waited for.
struct Asked {
    method: Method,
    path: String,
    names_an_address: bool,
    /// Whether it comes with the header of those who may, and from no page.
    may_change: bool,
}

impl Asked {
    fn of(request: &Request<Body>) -> Self {
        let headers = request.headers();
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            names_an_address: names_an_address(request),
            may_change: headers.contains_key(ADMIN_HEADER) && !headers.contains_key(ORIGIN),
        }
    }
}

fn no_key() -> Response<Body> {
    let forms = "caller:NAME, address:ADDRESS, tier:NAME, endpoint:OWNER/ALIAS or all";
    Problem::new(StatusCode::BAD_REQUEST, format!("a key is {forms}")).into()
}

fn no_store(error: &LimitError) -> Response<Body> {
    let error: &(dyn std::error::Error + 'static) = error;
    tracing::warn!(error, "the admin listener cannot ask the store of limits");
    let why = "the Redis that these limits are kept in does not answer";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into()
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
                    let (admin, asked) = (self.clone(), Asked::of(&request));
                    return Box::pin(async move { Ok(admin.limits(&asked).await) });
                }
                _ => Problem::not_found(other).into(),
            },
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}
