//! A key proxy inside a plain hyper server.
//!
//! Run it with `FAL_KEY=… cargo run --example embed_in_hyper` and give fal's client
//! `fal.config({ proxyUrl: "http://127.0.0.1:3000/api/fal/proxy" })`.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use falgate::proxy::{FalProxy, FalProxyLayer, ProxySettings};
use falgate::upstream::{FalKeyLayer, KeyRing, UpstreamClient, UpstreamSettings, WithFalKey};
use falgate::wire::{AllowedTargets, Body, EndpointPattern, Problem};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt};

/// The proxy, with nothing boxed.
pub type Fal = FalProxy<WithFalKey<UpstreamClient>>;

/// Stacks proxy, key and client.
///
/// # Errors
/// When the client cannot be made from `upstream`.
pub fn proxy(ring: KeyRing, upstream: UpstreamSettings) -> Result<Fal, Box<dyn Error>> {
    let mut settings = ProxySettings::default();
    settings.targets.endpoints = vec![EndpointPattern::parse("fal-ai/flux/**")?];
    let allowed = AllowedTargets::new(settings.targets.clone());
    Ok(ServiceBuilder::new()
        .layer(FalProxyLayer::new(settings, allowed))
        .layer(FalKeyLayer::new(ring))
        .service(UpstreamClient::new(upstream)?))
}

/// Serves connections until the listener fails.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, fal: Fal) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let fal = fal.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(fal.clone(), request));
            // Without a timer hyper waits for a slow head for ever.
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            // A client that breaks off is no failure of the server.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(fal: Fal, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != "/api/fal/proxy" {
        return Ok(Problem::not_found(request.uri().path()).into());
    }
    fal.oneshot(request.map(Body::from)).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = UpstreamSettings::default();
    let ring = KeyRing::open(&upstream.keys, |name| std::env::var(name).ok())?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    serve(listener, proxy(ring, upstream)?).await?;
    Ok(())
}
