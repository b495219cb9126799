//! A key proxy inside an axum application, behind the application's own login.
//!
//! Run it with `FAL_KEY=… cargo run --example embed_in_axum` and give fal's client
//! `fal.config({ proxyUrl: "http://127.0.0.1:3000/api/fal/proxy" })`.

use std::error::Error;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use falgate::proxy::{FalProxyLayer, ProxySettings};
use falgate::upstream::{FalKeyLayer, KeyRing, UpstreamClient, UpstreamSettings};
use falgate::wire::{AllowedTargets, Body, EndpointPattern};
use tower::{ServiceBuilder, ServiceExt};

/// The application: one route of fal's, open to those who are logged in.
///
/// # Errors
/// When the client cannot be made from `upstream`.
pub fn application(ring: KeyRing, upstream: UpstreamSettings) -> Result<Router, Box<dyn Error>> {
    let mut settings = ProxySettings::default();
    settings.targets.endpoints = vec![EndpointPattern::parse("fal-ai/flux/**")?];
    let allowed = AllowedTargets::new(settings.targets.clone());
    let fal = ServiceBuilder::new()
        .layer(FalProxyLayer::new(settings, allowed))
        .layer(FalKeyLayer::new(ring))
        .service(UpstreamClient::new(upstream)?)
        .map_request(|request: axum::extract::Request| request.map(Body::new))
        .map_response(|response: axum::http::Response<Body>| response.map(axum::body::Body::new));
    Ok(Router::new().route_service("/api/fal/proxy", fal).layer(middleware::from_fn(only_logged_in)))
}

/// Stands for the application's login: a real one looks its session up.
async fn only_logged_in(request: axum::extract::Request, next: Next) -> Response {
    if !has_session(request.headers()) {
        return (StatusCode::UNAUTHORIZED, [("content-type", "application/json")], r#"{"detail":"log in first"}"#)
            .into_response();
    }
    next.run(request).await
}

fn has_session(headers: &HeaderMap) -> bool {
    let cookies = headers.get("cookie").and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    cookies.split(';').any(|cookie| cookie.trim() == "session=demo")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = UpstreamSettings::default();
    let ring = KeyRing::open(&upstream.keys, |name| std::env::var(name).ok())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, application(ring, upstream)?).await?;
    Ok(())
}
