//! Which door a path is: health, the key proxy, tokens for pages, files, or a plain fal call.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tower_service::Service;

use super::health::Readiness;
use super::token_route::{TOKEN_PATH, TokenAnswer, TokenRoute};
use crate::wire::Body;

/// The doors of the gate.
#[derive(Debug, Clone)]
pub struct Routes<P, F, D> {
    /// The key proxy.
    pub proxy: P,
    /// Tokens for pages, where the key proxy is open.
    pub token: Option<TokenRoute<P>>,
    /// Uploaded and produced files, below `/files/`.
    pub files: F,
    /// Everything else: fal-shaped paths.
    pub direct: D,
    /// `/healthz` and `/readyz`.
    pub readiness: Readiness,
    /// Paths of the key proxy; each answers for all that lies below it.
    pub proxy_paths: Arc<[String]>,
}

impl<P, F, D> Routes<P, F, D> {
    fn is_proxy(&self, path: &str) -> bool {
        self.proxy_paths
            .iter()
            .any(|proxy| path.strip_prefix(proxy.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<P, F, D> Service<Request<Body>> for Routes<P, F, D>
where
    P: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    F: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    D: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Either<P::Future, F::Future>, Either<D::Future, Either<TokenAnswer<P::Future>, Ready<Answer>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match (self.proxy.poll_ready(cx), self.files.poll_ready(cx), self.direct.poll_ready(cx)) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        if self.is_proxy(path) {
            return Either::Left(Either::Left(self.proxy.call(request)));
        }
        if let Some(token) = self.token.as_mut().filter(|_| path == TOKEN_PATH) {
            return Either::Right(Either::Right(Either::Left(token.call(request))));
        }
        match path {
            "/healthz" => Either::Right(Either::Right(Either::Right(ready(Ok(Readiness::health(request.method())))))),
            "/readyz" => Either::Right(Either::Right(Either::Right(ready(Ok(self.readiness.ready(request.method())))))),
            _ if path.starts_with("/files/") => Either::Left(Either::Right(self.files.call(request))),
            _ => Either::Right(Either::Left(self.direct.call(request))),
        }
    }
}
