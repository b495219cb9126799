//! The layer itself.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use tower_layer::Layer;
use tower_service::Service;

use super::admitted::AdmittedTargets;
use super::forward::{Check, ProxyFuture};
use super::limit::LimitedBody;
use super::rewrite::{Sends, rewrite_request};
use super::{Policies, ProxySettings};
use crate::wire::{AllowedTargets, Body, CallKind, MemoryBudget, Problem, RequestId, TARGET_URL, TargetUrl, ToProblem};

const METHODS: &str = "GET, POST, PUT";
const TOKEN_BODY_BYTES: u64 = 64 * 1024;
/// What all bodies under a check may fill where nobody says otherwise.
const CHECKED_BODIES_BYTES: u64 = 256 * 1024 * 1024;

/// Makes [`FalProxy`] out of any client service.
///
/// Needs nothing in the request; a [`RequestId`] that is there goes onto the answer. Adds a [`TargetUrl`] to the request
/// and sets its URI to that target's path. A request that already carries a [`TargetUrl`] (it came straight to the gate,
/// which admitted it) is not asked for the header, and gets all the rest.
///
/// ```
/// use falgate::proxy::{FalProxyLayer, ProxySettings};
/// use falgate::upstream::{FalKeyLayer, KeyRing, UpstreamClient, UpstreamSettings};
/// use falgate::wire::{AllowedTargets, EndpointPattern};
/// use tower::ServiceBuilder;
///
/// let mut settings = ProxySettings::default();
/// settings.targets.endpoints = vec![EndpointPattern::parse("fal-ai/flux/**")?];
/// let allowed = AllowedTargets::new(settings.targets.clone());
/// let key = KeyRing::single("id:secret".to_owned())?;
/// let fal = ServiceBuilder::new()
///     .layer(FalProxyLayer::new(settings, allowed))
///     .layer(FalKeyLayer::new(key))
///     .service(UpstreamClient::new(UpstreamSettings::default())?);
/// # drop(fal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FalProxyLayer(Arc<Rules>);

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) settings: ProxySettings,
    pub(super) allowed: AllowedTargets,
    admitted: AdmittedTargets,
    pub(super) policies: Policies,
    pub(super) memory: MemoryBudget,
}

impl FalProxyLayer {
    /// Admits what `allowed` says, under these settings.
    #[must_use]
    pub fn new(settings: ProxySettings, allowed: AllowedTargets) -> Self {
        let policies = Policies::new(settings.policy.clone());
        Self(Arc::new(Rules {
            settings,
            allowed,
            admitted: AdmittedTargets::default(),
            policies,
            memory: MemoryBudget::new(CHECKED_BODIES_BYTES),
        }))
    }

    /// Holds bodies that are checked within `memory`, shared with others that hold bodies. A call that finds no room is
    /// answered 429.
    ///
    /// # Panics
    /// If the layer was cloned before.
    #[must_use]
    pub fn with_memory(mut self, memory: MemoryBudget) -> Self {
        Arc::get_mut(&mut self.0).expect("a layer is set up before it is cloned").memory = memory;
        self
    }
}

impl<S> Layer<S> for FalProxyLayer {
    type Service = FalProxy<S>;

    fn layer(&self, inner: S) -> FalProxy<S> {
        FalProxy { rules: Arc::clone(&self.0), inner }
    }
}

/// Turns proxy calls into plain fal calls; see [`FalProxyLayer`].
///
/// Dropping the answer's future or body drops the inner call.
#[derive(Debug, Clone)]
pub struct FalProxy<S> {
    rules: Arc<Rules>,
    inner: S,
}

impl<S> Service<Request<Body>> for FalProxy<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = ProxyFuture<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = request.extensions().get::<RequestId>().cloned();
        let check = match self.rules.prepare(&mut request) {
            Ok(check) => check,
            Err(problem) => return ProxyFuture::refuse(problem, id),
        };
        let Some(check) = check else {
            let limit = self.rules.settings.body_limit_bytes.get();
            let sized = request.body().size_hint();
            if sized.lower() > limit {
                return ProxyFuture::refuse(Problem::too_large(limit), id);
            }
            if sized.exact().is_some() {
                return ProxyFuture::forward(self.inner.call(request), None, id);
            }
            let (parts, body) = request.into_parts();
            let (body, overflow) = LimitedBody::new(body, limit);
            let inner = self.inner.call(Request::from_parts(parts, Body::new(body)));
            return ProxyFuture::forward(inner, Some((overflow, limit)), id);
        };
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        ProxyFuture::check(Arc::clone(&self.rules), inner, (request, check), id)
    }
}

impl Rules {
    /// Makes a plain fal call of a proxy call: all but what needs the body. Says what must be checked in it.
    fn prepare(&self, request: &mut Request<Body>) -> Result<Option<Check>, Problem> {
        let sends = match *request.method() {
            Method::GET => Sends::Nothing,
            Method::POST | Method::PUT => Sends::Json,
            _ => return Err(Problem::method_not_allowed(METHODS)),
        };
        let target = match request.extensions().get::<TargetUrl>() {
            Some(admitted) => admitted.clone(),
            None => {
                let header = request.headers().get(TARGET_URL);
                let admitted = self.admitted.admit(&self.allowed, header, request.method());
                admitted.map_err(|refusal| refusal.to_problem())?
            }
        };
        match sends {
            Sends::Nothing => *request.body_mut() = Body::empty(),
            Sends::Json if !request.body().is_end_stream() && !says_json(request.headers()) => {
                return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json"));
            }
            Sends::Json => {}
        }
        let check = self.check_for(&target, sends)?;
        *request.headers_mut() = rewrite_request(request.headers(), sends);
        *request.uri_mut() = Uri::from(target.path_and_query().clone());
        request.extensions_mut().insert(target);
        Ok(check)
    }

    fn check_for(&self, target: &TargetUrl, sends: Sends) -> Result<Option<Check>, Problem> {
        let call = target.call();
        match &call.endpoint {
            None if call.kind == CallKind::Token => Ok(Some(Check::Token { limit: TOKEN_BODY_BYTES })),
            Some(endpoint) if call.kind.starts_work() && self.policies.concern(endpoint) => {
                if sends == Sends::Nothing {
                    // Its input would be the query, which an app may read in ways that no rule here foresees.
                    return Err(Problem::method_not_allowed("POST"));
                }
                Ok(Some(Check::Input { limit: self.settings.checked_body_limit_bytes.get() }))
            }
            _ => Ok(None),
        }
    }
}

/// `application/json` or `application/…+json`, with parameters or without, once.
fn says_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let starts = |with: &[u8]| essence.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let ends = |with: &[u8]| {
        let end = essence.len().checked_sub(with.len()).map(|at| &essence[at..]);
        end.is_some_and(|end| end.eq_ignore_ascii_case(with))
    };
    essence.eq_ignore_ascii_case(b"application/json") || starts(b"application/") && ends(b"+json")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_known_by_its_essence() {
        let says =
            |value: &'static str| says_json(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]));
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(says(json), "{json}");
        }
        for other in ["", "text/plain", "text/plain; application/json", "application/jsonx", "text/x+json"] {
            assert!(!says(other), "{other}");
        }
        assert!(!says_json(&HeaderMap::new()));
    }
}
