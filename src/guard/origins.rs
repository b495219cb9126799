//! Which pages may call: CORS, and a refusal of foreign pages where a call changes something.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_REQUEST_HEADERS, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, RETRY_AFTER, UPGRADE, VARY,
};
use http::{Method, Request, Response, StatusCode, Uri};
use pin_project_lite::pin_project;
use serde::{Deserialize, Serialize};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer};
use tower_layer::Layer;
use tower_service::Service;

use super::limit::{OLDER, RATE_LIMIT, RATE_LIMIT_POLICY};
use crate::wire::{Body, Problem, REQUEST_ID};

const ANY: &str = "*";
/// What an answer depends on. The CORS layer says the same.
const VARIES: HeaderValue = HeaderValue::from_static("origin, access-control-request-headers");

/// Which pages may call the gate from a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OriginSettings {
    /// Origins of pages that may call, compared exactly: `https://draw.example`, `http://localhost:3000`. Pages of the
    /// gate's own origin always may. `*` lets every page call.
    pub allow: Vec<String>,
    /// Let these pages send cookies and other credentials of the browser's. Not together with `*`.
    pub credentials: bool,
    /// Time for which a browser remembers the answer to a preflight, in seconds.
    pub max_age_s: u32,
}

impl Default for OriginSettings {
    fn default() -> Self {
        Self { allow: Vec::new(), credentials: false, max_age_s: 600 }
    }
}

impl OriginSettings {
    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (at, origin) in self.allow.iter().enumerate() {
            if origin != ANY && !is_origin(origin) {
                let why =
                    format!("{origin:?} is no origin: scheme and host, in lower case, without a slash at the end");
                faults.push((format!("allow.{at}"), why));
            }
        }
        if self.credentials && self.allow.iter().any(|origin| origin == ANY) {
            faults.push(("credentials".to_owned(), "credentials cannot go to every page (allow has *)".to_owned()));
        }
        faults
    }
}

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let is_default = matches!((scheme, authority.port_u16()), ("https", Some(443)) | ("http", Some(80)));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    matches!(scheme, "http" | "https")
        && authority.as_str().bytes().all(plain)
        && !is_default
        && text == format!("{scheme}://{authority}").to_ascii_lowercase()
}

/// Why there is no [`OriginsLayer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct OriginFault {
    /// The key inside the table.
    pub key: String,
    /// What is wrong.
    pub why: String,
}

/// Origin of the page that calls, once it is known that it may. Added by [`OriginsLayer`]; requests that come from no page's
/// script have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOrigin(pub String);

#[derive(Debug)]
struct Rules {
    any: bool,
    listed: Vec<HeaderValue>,
}

impl Rules {
    fn allows(&self, origin: &HeaderValue, headers: &HeaderMap) -> bool {
        self.any || self.listed.contains(origin) || is_same_origin(origin, headers.get(HOST))
    }
}

/// Whether the page comes from the host that is called. The scheme is not compared: behind a proxy that ends TLS the gate
/// does not see it.
fn is_same_origin(origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
    let Some((origin, host)) = origin.to_str().ok().zip(host.and_then(|host| host.to_str().ok())) else { return false };
    let (authority, default) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let plain = |name: &str| name.strip_suffix(default).unwrap_or(name).to_ascii_lowercase();
    !authority.is_empty() && plain(authority) == plain(host)
}

/// Answers preflights, adds CORS headers, and refuses what a foreign page would change.
///
/// Needs nothing; adds [`PageOrigin`]. A preflight ends here, so that it never needs a key. Requests without
/// `Origin` do not come from a page's script and pass; this is no access control for programs.
///
/// ```
/// use falgate::guard::{OriginSettings, OriginsLayer};
/// use falgate::wire::Body;
/// use tower::{ServiceBuilder, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let settings = OriginSettings { allow: vec!["https://draw.example".to_owned()], ..Default::default() };
/// let service = ServiceBuilder::new().layer(OriginsLayer::new(&settings).unwrap()).service(service_fn(
///     |_: http::Request<()>| async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())) },
/// ));
/// let request = http::Request::post("/").header("origin", "https://evil.example").body(()).unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap().status(), 403);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct OriginsLayer {
    rules: Arc<Rules>,
    cors: CorsLayer,
}

impl OriginsLayer {
    /// Lets the pages call that the settings name.
    ///
    /// # Errors
    /// [`OriginFault`], the first of the settings' faults.
    pub fn new(settings: &OriginSettings) -> Result<Self, OriginFault> {
        if let Some((key, why)) = settings.faults().into_iter().next() {
            return Err(OriginFault { key, why });
        }
        let any = settings.allow.iter().any(|origin| origin == ANY);
        let listed = settings.allow.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
        let rules = Arc::new(Rules { any, listed });
        let origins = if any {
            AllowOrigin::any()
        } else {
            let rules = Arc::clone(&rules);
            AllowOrigin::predicate(move |origin, parts| rules.allows(origin, &parts.headers))
        };
        let exposed = [
            REQUEST_ID,
            RETRY_AFTER,
            RATE_LIMIT,
            RATE_LIMIT_POLICY,
            HeaderName::from_static("x-fal-billable-units"),
            HeaderName::from_static("x-fal-error-type"),
            HeaderName::from_static("x-falgate-queue-place"),
            HeaderName::from_static("x-falgate-queue-wait"),
            HeaderName::from_static("x-falgate-warning"),
            HeaderName::from_static("x-fal-request-timeout-type"),
        ];
        let mut cors = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS])
            // Only what `keep_known` left of them.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed.into_iter().chain(OLDER).collect::<Vec<_>>())
            .max_age(Duration::from_secs(settings.max_age_s.into()));
        if settings.credentials {
            cors = cors.allow_credentials(true);
        }
        Ok(Self { rules, cors })
    }
}

impl<S> Layer<S> for OriginsLayer {
    type Service = Origins<S>;

    fn layer(&self, inner: S) -> Origins<S> {
        Origins { inner: self.cors.layer(inner), rules: Arc::clone(&self.rules) }
    }
}

/// The service of [`OriginsLayer`].
#[derive(Debug, Clone)]
pub struct Origins<S> {
    inner: Cors<S>,
    rules: Arc<Rules>,
}

impl<S, B> Service<Request<B>> for Origins<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = OriginsFuture<S::Future, <Cors<S> as Service<Request<B>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Not the middle layer's: it judges its rules each time, and these were judged when they were made.
        self.inner.get_mut().poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let is_preflight = request.method() == Method::OPTIONS;
        if !is_preflight && !self.rules.any && !request.headers().contains_key(ORIGIN) {
            // No page's script: nobody reads more of CORS than what caches need.
            return OriginsFuture::Program { inner: self.inner.get_mut().call(request) };
        }
        let is_foreign = is_from_foreign_page(&request, &self.rules);
        if is_foreign && changes_something(&request) {
            let problem = Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not call here");
            return OriginsFuture::Refused { problem: Some(problem) };
        }
        if is_preflight {
            keep_known(request.headers_mut());
        }
        if let Some(origin) = page_origin(&request).filter(|_| !is_foreign) {
            request.extensions_mut().insert(origin);
        }
        OriginsFuture::Page { inner: Box::pin(self.inner.call(request)) }
    }
}

pin_project! {
    /// The answer, with what CORS adds to it.
    #[project = Projected]
    #[expect(missing_docs, reason = "the fields of an opaque future")]
    pub enum OriginsFuture<F, C> {
        /// A foreign page that wanted to change something.
        Refused { problem: Option<Problem> },
        /// A caller that is no page.
        Program { #[pin] inner: F },
        /// A page that may call, or a preflight. Boxed, so that others do not carry its weight.
        Page { inner: Pin<Box<C>> },
    }
}

impl<F, C> Future for OriginsFuture<F, C>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
    C: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Refused { problem } => {
                let problem = problem.take().expect("a future is not polled after it is done");
                Poll::Ready(Ok(problem.into()))
            }
            Projected::Program { inner } => {
                let mut answer = ready!(inner.poll(cx))?;
                answer.headers_mut().append(VARY, VARIES);
                Poll::Ready(Ok(answer))
            }
            Projected::Page { inner } => inner.as_mut().poll(cx),
        }
    }
}

fn is_from_foreign_page<B>(request: &Request<B>, rules: &Rules) -> bool {
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let (Some(origin), second) = (origins.next(), origins.next()) else { return false };
    second.is_some() || !rules.allows(origin, request.headers())
}

fn page_origin<B>(request: &Request<B>) -> Option<PageOrigin> {
    request.headers().get(ORIGIN)?.to_str().ok().map(|origin| PageOrigin(origin.to_owned()))
}

/// Reading is left to the browser's own rules; a socket has none and counts as a change.
fn changes_something<B>(request: &Request<B>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || request.headers().contains_key(UPGRADE)
}

/// Leaves of the headers that a preflight asks for only those that fal's clients send.
fn keep_known(headers: &mut HeaderMap) {
    let asked: Vec<String> = headers
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| is_known(name))
        .take(64)
        .collect();
    match HeaderValue::from_str(&asked.join(",")) {
        Ok(kept) if !kept.is_empty() => headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, kept),
        _ => headers.remove(ACCESS_CONTROL_REQUEST_HEADERS),
    };
}

fn is_known(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    matches!(name, "authorization" | "content-type" | "accept")
        || (name.starts_with("x-fal-") && plain)
        || matches!(name, "cache-control" | "last-event-id" | "x-app-fal-disable-fallback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_named() {
        let settings = |allow: &[&str], credentials| OriginSettings {
            allow: allow.iter().map(|&origin| origin.to_owned()).collect(),
            credentials,
            ..OriginSettings::default()
        };
        assert_eq!(settings(&["https://a.example", "http://localhost:3000", "*"], false).faults(), []);
        for origin in [
            "https://a.example/",
            "a.example",
            "https://A.example",
            "ftp://a",
            "https://u@a",
            "https://a:443",
            "null",
            "https://*.a",
        ] {
            let faults = settings(&[origin], false).faults();
            assert_eq!(faults.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["allow.0"], "{origin}");
        }
        assert_eq!(settings(&["*"], true).faults()[0].0, "credentials");
        assert!(OriginsLayer::new(&settings(&["*"], true)).is_err());
    }

    #[test]
    fn a_page_of_the_gate_itself_is_at_home() {
        let same = |origin: &str, host: &str| {
            is_same_origin(&HeaderValue::from_str(origin).unwrap(), Some(&HeaderValue::from_str(host).unwrap()))
        };
        assert!(same("https://gate.test", "gate.test"));
        assert!(same("https://gate.test", "Gate.test:443"));
        assert!(same("http://gate.test:8080", "gate.test:8080"));
        assert!(!same("https://gate.test:8443", "gate.test"));
        assert!(!same("https://gate.test.evil", "gate.test"));
        assert!(!same("https://evilgate.test", "gate.test"));
        assert!(!same("null", "gate.test"));
        assert!(!same("https://", ""));
    }

    #[test]
    fn a_preflight_gets_no_more_than_fals_headers() {
        let mut headers = HeaderMap::new();
        let asked = "Authorization, x-fal-target-url,x-evil,  content-type, x-fal-\u{7f}";
        headers.insert(
            ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_bytes(asked.replace('\u{7f}', "x y").as_bytes()).unwrap(),
        );
        keep_known(&mut headers);
        assert_eq!(headers[ACCESS_CONTROL_REQUEST_HEADERS], "authorization,x-fal-target-url,content-type");
    }
}
