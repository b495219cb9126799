//! The direct door: fal-shaped paths and host names at the gate itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::header::HOST;
use http::{Request, Response};
use tower_service::Service;

use crate::wire::{AllowedTargets, Body, Door, PlainPath, Problem, TargetRefusal, ToProblem, host_class};

/// Turns a fal-shaped request at the gate into the plain call that the proxy would make of it.
///
/// Adds a [`crate::wire::TargetUrl`]. Refusals are answered here: 404 for what is no call, 403 for what is not allowed.
#[derive(Debug, Clone)]
pub struct DirectDoor<S> {
    inner: S,
    allowed: Arc<AllowedTargets>,
}

impl<S> DirectDoor<S> {
    /// Lets calls through to `inner` that `allowed` admits.
    pub const fn new(inner: S, allowed: Arc<AllowedTargets>) -> Self {
        Self { inner, allowed }
    }
}

impl<S> Service<Request<Body>> for DirectDoor<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.admit(&request) {
            Ok(target) => {
                request.extensions_mut().insert(target);
                Either::Left(self.inner.call(request))
            }
            Err(problem) => Either::Right(ready(Ok(problem.into()))),
        }
    }
}

impl<S> DirectDoor<S> {
    fn admit(&self, request: &Request<Body>) -> Result<crate::wire::TargetUrl, Problem> {
        let uri = request.uri();
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        let (class, legacy_label) = host_class(&host, uri.path());
        let path_and_query = uri.path_and_query().map_or("/", |whole| whole.as_str());
        let plain = PlainPath { class, legacy_label, method: request.method(), path_and_query, door: Door::Http };
        self.allowed.admit_path(&plain).map_err(|refusal| match refusal {
            // At this door a path that cannot be read is no bad header, just nothing.
            TargetRefusal::Invalid(_) => Problem::not_found(uri.path()),
            other => other.to_problem(),
        })
    }
}
