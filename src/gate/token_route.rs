//! `GET /api/fal/token?app=…`: a token for the page that asks, as the `tokenProvider` of fal's client wants it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::{Either, Ready};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use serde_json::{Map, Value, json};
use tower_service::Service;

use crate::guard::PageOrigin;
use crate::wire::{Body, FieldError, Problem, TARGET_URL, fields_of_query};

/// Where pages ask.
pub(super) const TOKEN_PATH: &str = "/api/fal/token";
/// What is asked of the key proxy for them.
const TARGET: HeaderValue = HeaderValue::from_static("https://rest.fal.ai/tokens/");
/// Names under which a page may wish for a life, in seconds.
const LIFE: [&str; 3] = ["expires", "duration", "token_expiration"];

/// Makes a call for a token through the key proxy out of a plain GET: `app` names the app, whole or by its alias,
/// `expires` the life in seconds.
///
/// Whoever may call the proxy may have a token here, and nobody else: the inner service asks. A page of another site that
/// leaves out where it comes from is refused here.
#[derive(Debug, Clone)]
pub struct TokenRoute<P> {
    proxy: P,
}

impl<P> TokenRoute<P> {
    /// Asks `proxy`, the key proxy with the check of origins before it.
    pub const fn new(proxy: P) -> Self {
        Self { proxy }
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<P> Service<Request<Body>> for TokenRoute<P>
where
    P: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = TokenAnswer<P::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.proxy.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = match *request.method() {
            // A preflight is answered for the key proxy's pages, which are the same.
            Method::OPTIONS => Either::Left(self.proxy.call(request)),
            Method::GET => match translate(request) {
                Ok(request) => Either::Left(self.proxy.call(request)),
                Err(problem) => refuse(problem),
            },
            _ => refuse(Problem::method_not_allowed("GET")),
        };
        TokenAnswer { inner }
    }
}

fn refuse<F>(problem: Problem) -> Either<F, Ready<Answer>> {
    Either::Right(futures_util::future::ready(Ok(problem.into())))
}

/// The call for a token that the GET means.
fn translate(request: Request<Body>) -> Result<Request<Body>, Problem> {
    let (mut parts, _) = request.into_parts();
    if is_from_another_site(&parts.headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not call here"));
    }
    let body = wish(parts.uri.query().unwrap_or_default()).map_err(|error| Problem::invalid(vec![error]))?;
    if let Some(page) = own_page(&parts) {
        parts.extensions.insert(page);
    }
    parts.method = Method::POST;
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    parts.headers.insert(TARGET_URL, TARGET);
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// Browsers send no `Origin` with a plain GET that the page cannot read, but they say where it comes from.
fn is_from_another_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    !headers.contains_key(ORIGIN) && site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
}

/// A page of the gate's own, which sends no `Origin` either. Its scheme is not known behind a proxy that ends TLS.
fn own_page(parts: &Parts) -> Option<PageOrigin> {
    let is_own = parts.headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(Authority::as_str))?;
    (is_own && !parts.headers.contains_key(ORIGIN)).then(|| PageOrigin(format!("//{host}")))
}

fn wish(query: &str) -> Result<String, FieldError> {
    let fields = fields_of_query(query);
    let in_query = |mut error: FieldError| {
        error.loc[0] = "query".into();
        error
    };
    let app = fields.get("app").filter(|app| app.as_str() != Some(""));
    let app = app.ok_or_else(|| in_query(FieldError::at("app", "missing", "Field required")))?;
    let mut wish = Map::new();
    wish.insert("allowed_apps".to_owned(), json!([app]));
    let life = LIFE.iter().find_map(|name| fields.get(*name)).cloned();
    wish.extend(life.map(|life| ("token_expiration".to_owned(), life)));
    Ok(Value::Object(wish).to_string())
}

pin_project! {
    /// The answer, which no cache may keep.
    pub struct TokenAnswer<F> {
        #[pin]
        inner: Either<F, Ready<Answer>>,
    }
}

impl<F: Future<Output = Answer>> Future for TokenAnswer<F> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut answer = ready!(self.project().inner.poll(cx))?;
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Poll::Ready(Ok(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_a_wish() {
        let wish = |query: &str| wish(query).map(|wish| serde_json::from_str::<Value>(&wish).unwrap());
        let app = "fal-ai/lcm-sd15-i2i/realtime";
        assert_eq!(wish("app=fal-ai%2Flcm-sd15-i2i%2Frealtime").unwrap(), json!({ "allowed_apps": [app] }));
        let timed = json!({ "allowed_apps": ["lcm"], "token_expiration": "60" });
        assert_eq!(wish("app=lcm&expires=60").unwrap(), timed);
        assert_eq!(wish("duration=60&app=lcm").unwrap(), timed);
        for query in ["", "app=", "apps=lcm"] {
            let error = wish(query).unwrap_err();
            assert_eq!((error.kind, error.loc), ("missing", vec!["query".into(), "app".into()]), "{query}");
        }
    }

    #[test]
    fn a_page_of_another_site_cannot_hide_where_it_comes_from() {
        let from = |fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            is_from_another_site(&fields.collect())
        };
        assert!(from(&[("sec-fetch-site", "cross-site")]) && from(&[("sec-fetch-site", "same-site")]));
        assert!(!from(&[]) && !from(&[("sec-fetch-site", "same-origin")]) && !from(&[("sec-fetch-site", "none")]));
        // With an origin it is the origin that counts, and the check before the proxy looks at it.
        assert!(!from(&[("sec-fetch-site", "cross-site"), ("origin", "https://draw.example")]));
    }
}
