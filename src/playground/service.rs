//! Answers for the embedded files.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, IF_NONE_MATCH};
use http::{Method, Request, Response, StatusCode};
use tower_service::Service;

use super::PlaygroundSettings;
use super::assets::{Asset, chosen};
use crate::wire::{Body, Problem, host_class};

/// The page and the shim, as far as the settings want them. Cloning shares the files.
///
/// Needs nothing and adds nothing: mount it as a service, or ask it with [`Playground::answer`] before others are asked.
///
/// ```
/// use falgate::playground::{Playground, PlaygroundSettings};
///
/// let playground = Playground::new(&PlaygroundSettings::default());
/// let request = http::Request::get("/falgate.js").body(()).unwrap();
/// assert_eq!(playground.answer(&request).unwrap().status(), 200);
/// assert!(playground.answer(&http::Request::get("/").body(()).unwrap()).is_none(), "the page is off by default");
/// ```
#[derive(Debug, Clone)]
pub struct Playground {
    assets: Arc<[Asset]>,
}

impl Playground {
    /// Serves what the settings ask for.
    #[must_use]
    pub fn new(settings: &PlaygroundSettings) -> Self {
        Self { assets: chosen(settings).into() }
    }

    /// The answer, where the request is for one of the files; `None` where it is for somebody else.
    ///
    /// On a host name that is an app's, as the legacy gateway had them, every path is a call: there is nothing here.
    #[must_use]
    pub fn answer<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let path = request.uri().path();
        let asset = self.assets.iter().find(|asset| asset.path == path)?;
        if names_an_app(request) {
            return None;
        }
        match *request.method() {
            Method::GET => Some(asset.sent(request.headers(), asset.body.clone().into())),
            Method::HEAD => Some(asset.sent(request.headers(), Body::empty())),
            _ => Some(Problem::method_not_allowed("GET, HEAD").into()),
        }
    }
}

impl Asset {
    fn sent(&self, asked: &HeaderMap, body: Body) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = self.headers.clone();
        if asked.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &self.etag)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        // Said for HEAD too, where the body does not show it.
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        *response.body_mut() = body;
        response
    }
}

/// Whether an `If-None-Match` names the tag; weak tags count, RFC 9110 13.1.2.
fn names(known: &HeaderValue, etag: &HeaderValue) -> bool {
    let (Ok(known), Ok(etag)) = (known.to_str(), etag.to_str()) else { return false };
    known.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn names_an_app<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or_default();
    host_class(&host.to_ascii_lowercase(), request.uri().path()).1.is_some()
}

impl<B> Service<Request<B>> for Playground {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.answer(&request);
        std::future::ready(Ok(answer.unwrap_or_else(|| Problem::not_found(request.uri().path()).into())))
    }
}
