//! Tells inner rooms at which origin the client reached the gate.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http::header::HOST;
use tower_service::Service;

use crate::wire::PublicOrigin;

/// How the origin of a request is known.
#[derive(Debug, Clone)]
pub enum Origins {
    /// The operator said it.
    Fixed(PublicOrigin),
    /// From the request's `Host`, with this scheme: `https` where the gate ends TLS itself.
    FromHost {
        /// `http` or `https`.
        scheme: &'static str,
    },
    /// Nobody asks: without an engine no URL is handed out.
    Unused,
}

/// Adds a [`PublicOrigin`] to each request that needs one.
#[derive(Debug, Clone)]
pub struct MarkOrigin<S> {
    inner: S,
    origins: Arc<Origins>,
}

impl<S> MarkOrigin<S> {
    /// Marks requests on their way to `inner`.
    pub const fn new(inner: S, origins: Arc<Origins>) -> Self {
        Self { inner, origins }
    }
}

impl<S, B> Service<Request<B>> for MarkOrigin<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let origin = match &*self.origins {
            Origins::Unused => None,
            Origins::Fixed(origin) => Some(origin.clone()),
            Origins::FromHost { scheme } => {
                let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
                let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
                host.map(|host| PublicOrigin(format!("{scheme}://{host}")))
            }
        };
        if let Some(origin) = origin {
            request.extensions_mut().insert(origin);
        }
        self.inner.call(request)
    }
}
