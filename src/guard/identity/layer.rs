//! Finds out who calls, before anybody is charged or let further.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures_util::future::Either;
use http::header::{AUTHORIZATION, CACHE_CONTROL, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::ask::{Identity, Known};
use super::credentials::Credentials;
use super::visitor::{COOKIE, HumanRule};
use crate::guard::PageOrigin;
use crate::telemetry::CallerNote;
use crate::wire::Body;

/// Finds out who calls, by the ways that it is given.
///
/// Needs nothing; reads [`PageOrigin`]: cookies of a request with an `Origin` count only with it. Adds [`Caller`](super::Caller) and
/// [`Tier`](crate::guard::Tier) where they are known, and takes the `Authorization` out that told. A credential that is bad is
/// refused with 401, never taken for none; one that cannot be checked now, with 503. Whoever has none passes: whether a call
/// needs a caller is asked by [`CallersLayer`](super::CallersLayer). `OPTIONS` passes without.
///
/// ```
/// use falgate::guard::{AccessKeys, Identity, IdentityBy, IdentityLayer};
/// use falgate::wire::Body;
/// use tower::{ServiceBuilder, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let keys = AccessKeys::read(["drawing-app 0123:456789abcdef0123"]).unwrap();
/// let layer = IdentityLayer::new(Identity::new(vec![IdentityBy::Keys(keys)]));
/// let service = ServiceBuilder::new().layer(layer).service(service_fn(
///     |_: http::Request<()>| async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())) },
/// ));
/// let request = http::Request::builder().header("authorization", "Key 0123:guessed").body(()).unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap().status(), 401);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct IdentityLayer {
    identity: Identity,
    cookies: Cookies,
}

/// Whether answers give cookies to visitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cookies {
    Read,
    Given,
}

impl IdentityLayer {
    /// Asks `identity`.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self { identity, cookies: Cookies::Read }
    }

    /// Gives a cookie to callers without a name whose call is answered well, where there are visitors and no check comes
    /// before. They have a name from their next call on: this one is nobody's, so that whoever throws the cookie away gains
    /// no fresh share of a limit.
    #[must_use]
    pub const fn with_cookies(mut self) -> Self {
        self.cookies = Cookies::Given;
        self
    }
}

impl<S> Layer<S> for IdentityLayer {
    type Service = Identified<S>;

    fn layer(&self, inner: S) -> Identified<S> {
        Identified { inner, rules: self.clone() }
    }
}

/// The service of [`IdentityLayer`].
#[derive(Debug, Clone)]
pub struct Identified<S> {
    inner: S,
    rules: IdentityLayer,
}

type Boxed<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, B> Service<Request<B>> for Identified<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Boxed<S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.rules.identity.is_empty() || request.method() == Method::OPTIONS {
            return Either::Left(self.inner.call(request));
        }
        let credentials = Credentials::of(request.headers(), request.extensions().get::<PageOrigin>());
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let rules = self.rules.clone();
        Either::Right(Box::pin(rules.serve(inner, request, credentials)))
    }
}

impl IdentityLayer {
    async fn serve<S, B>(
        self,
        mut inner: S,
        mut request: Request<B>,
        credentials: Credentials,
    ) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<B>, Response = Response<Body>>,
    {
        let now = SystemTime::now();
        let known = match self.identity.recognise(&credentials, now).await {
            Ok(known) => known,
            Err(problem) => return Ok(problem.into()),
        };
        let note = known.caller.as_ref().map(|caller| CallerNote(Arc::clone(&caller.name)));
        let cookie = self.cookie(&known, now);
        let Known { caller, tier, .. } = known;
        if let Some(caller) = caller {
            request.headers_mut().remove(AUTHORIZATION);
            request.extensions_mut().insert(caller);
        }
        if let Some(tier) = tier {
            request.extensions_mut().insert(tier);
        }
        let mut answer = inner.call(request).await?;
        if let Some(note) = note {
            answer.extensions_mut().insert(note);
        }
        if let Some(cookie) = cookie.filter(|_| !is_refusal(&answer)) {
            give(&mut answer, cookie);
        }
        Ok(answer)
    }

    /// The cookie that a good answer gives: to whoever is new, and to whom it soon ends.
    fn cookie(&self, known: &Known, now: SystemTime) -> Option<HeaderValue> {
        let visitors = self.identity.visitors().filter(|_| self.cookies == Cookies::Given)?;
        match (&known.caller, &known.visit) {
            (_, Some(visit)) => visit.is_old.then(|| visitors.renew(visit, now)),
            (Some(_), None) => None,
            (None, None) => (visitors.human() == HumanRule::Anyone).then(|| visitors.welcome(HumanRule::Anyone, now)),
        }
    }

    /// Gives a cookie with an answer that came another way, such as a page, by the same rules as the layer's.
    pub fn welcome<B>(&self, request: &Request<B>, answer: &mut Response<Body>) {
        let Some(visitors) = self.identity.visitors().filter(|_| !is_refusal(answer)) else { return };
        let now = SystemTime::now();
        let credentials = Credentials::of(request.headers(), request.extensions().get::<PageOrigin>());
        let visit = credentials.cookies(COOKIE).find_map(|value| visitors.read(value, now));
        if let Some(cookie) = self.cookie(&Known { visit, ..Known::default() }, now) {
            give(answer, cookie);
        }
    }
}

fn is_refusal(answer: &Response<Body>) -> bool {
    answer.status().is_client_error() || answer.status().is_server_error()
}

/// Adds a cookie, and keeps caches from giving it to others.
fn give(answer: &mut Response<Body>, cookie: HeaderValue) {
    answer.headers_mut().append(SET_COOKIE, cookie);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
}
