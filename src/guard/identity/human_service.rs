//! Takes the token of a page's widget, and gives a cookie for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde::Deserialize;
use tower_service::Service;

use super::human::HumanCheck;
use super::visitor::{HumanRule, Visitors};
use crate::guard::ClientAddr;
use crate::telemetry::CallNote;
use crate::wire::{Body, FieldError, Problem, ToProblem as _, collect};

/// Largest body: a token and what is around it.
const BODY_BYTES: u64 = 16 * 1024;

/// Answers `POST {"token": "…"}` with 204 and the cookie of a visitor who has passed the check.
///
/// Reads [`ClientAddr`] where it is known, and tells it to the provider. Foreign pages must have been refused before.
#[derive(Debug, Clone)]
pub struct HumanService {
    check: HumanCheck,
    visitors: Visitors,
}

#[derive(Deserialize)]
struct Wish {
    token: String,
}

impl HumanService {
    /// Asks `check`, and welcomes who passes to `visitors`.
    #[must_use]
    pub const fn new(check: HumanCheck, visitors: Visitors) -> Self {
        Self { check, visitors }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if *request.method() != Method::POST {
            return Problem::method_not_allowed("POST").into();
        }
        let (parts, body) = request.into_parts();
        let body = match collect(body, BODY_BYTES).await {
            Ok(body) => body,
            Err(error) => return error.to_problem().into(),
        };
        let Ok(Wish { token }) = serde_json::from_slice(&body) else {
            return Problem::invalid(vec![FieldError::at("token", "missing", "Field required")]).into();
        };
        let address = parts.extensions.get::<ClientAddr>().map(|client| client.0);
        if let Err(fault) = self.check.verify(&token, address).await {
            let cause = std::error::Error::source(&fault).map(ToString::to_string);
            tracing::info!(error = %fault, cause, "a human check was not passed");
            return fault.to_problem().into();
        }
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let cookie = self.visitors.welcome(HumanRule::Checked, SystemTime::now());
        answer.headers_mut().insert(SET_COOKIE, cookie);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let waited = std::time::Duration::ZERO;
        answer.extensions_mut().insert(CallNote { endpoint: None, kind: "human", route: "gate", waited });
        answer
    }
}

impl Service<Request<Body>> for HumanService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
