//! Which door a path is: health, the key proxy, tokens for pages, files, the page and its script, or a plain fal call.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response};
use tower_service::Service;

use super::health::Readiness;
use super::token_route::{TOKEN_PATH, TokenAnswer, TokenRoute};
use crate::guard::{HumanService, IdentityLayer, Origins};
use crate::playground::Playground;
use crate::wire::{Body, Problem};

/// Paths that are never endpoints: where the key proxy does not answer at them, nothing does.
const CLOSED_UNLESS_LISTED: [&str; 2] = ["/api/fal/proxy", "/api/_fal/proxy"];

/// Where pages hand in the token of a human check.
const HUMAN_PATH: &str = "/api/fal/human";

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
    /// Where pages hand in the token of a human check, where there is one. It is seldom called and always ready, so it is
    /// cloned when it is, and not with every connection.
    pub human: Option<Arc<Origins<HumanService>>>,
    /// Knows visitors again, who may begin with the page.
    pub who: IdentityLayer,
    /// The page at `/`, and the shim.
    pub playground: Playground,
    /// `/healthz` and `/readyz`.
    pub readiness: Readiness,
    /// Paths of the key proxy; each answers for all that lies below it.
    pub proxy_paths: Arc<[String]>,
}

impl<P, F, D> Routes<P, F, D> {
    fn is_proxy(&self, path: &str) -> bool {
        self.proxy_paths.iter().any(|proxy| is_at_or_below(path, proxy))
    }
}

fn is_at_or_below(path: &str, proxy: &str) -> bool {
    path.strip_prefix(proxy).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

type Answer = Result<Response<Body>, Infallible>;
type Boxed = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The answer of whichever door it was: the futures of the proxy, the files, the direct door, and the token route.
type Door<P, F, D, T> = Either<Either<P, F>, Either<D, Either<T, Either<Boxed, Ready<Answer>>>>>;

/// An answer that nobody is waited for.
fn at_once<P, F, D, T>(answer: Response<Body>) -> Door<P, F, D, T> {
    Either::Right(Either::Right(Either::Right(Either::Right(ready(Ok(answer))))))
}

impl<P, F, D> Service<Request<Body>> for Routes<P, F, D>
where
    P: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    F: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    D: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Door<P::Future, F::Future, D::Future, TokenAnswer<P::Future>>;

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
        if CLOSED_UNLESS_LISTED.iter().any(|proxy| is_at_or_below(path, proxy)) {
            return at_once(Problem::not_found(path).into());
        }
        if let Some(mut answer) = self.playground.answer(&request) {
            if path == "/" {
                self.who.welcome(&request, &mut answer);
            }
            return at_once(answer);
        }
        if path == HUMAN_PATH {
            let Some(human) = &self.human else { return at_once(Problem::not_found(path).into()) };
            let answer = Origins::clone(human).call(request);
            return Either::Right(Either::Right(Either::Right(Either::Left(Box::pin(answer)))));
        }
        if let Some(token) = self.token.as_mut().filter(|_| path == TOKEN_PATH) {
            return Either::Right(Either::Right(Either::Left(token.call(request))));
        }
        match path {
            "/healthz" => at_once(Readiness::health(request.method())),
            "/readyz" => at_once(self.readiness.ready(request.method())),
            _ if path.starts_with("/files/") => Either::Left(Either::Right(self.files.call(request))),
            _ => Either::Right(Either::Left(self.direct.call(request))),
        }
    }
}
