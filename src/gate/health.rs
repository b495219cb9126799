//! `/healthz` and `/readyz`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::wire::{Body, Problem};

/// Whether the gate should be sent work. Cloning shares it.
#[derive(Clone)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    engine: Arc<dyn Fn() -> EngineReadiness + Send + Sync>,
}

/// What the engine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineReadiness {
    /// There is none, or it serves.
    Ready,
    /// It loads or warms up; the text says what it is at.
    Loading(String),
    /// It does not serve and will not.
    Failed,
}

impl Readiness {
    /// Ready whenever the engine is, until [`Self::drain`].
    pub fn new(engine: impl Fn() -> EngineReadiness + Send + Sync + 'static) -> Self {
        Self { draining: Arc::default(), engine: Arc::new(engine) }
    }

    /// Says from now on that the gate wants no new work.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// The answer to `/healthz`: the process is alive.
    #[must_use]
    pub fn health(method: &Method) -> Response<Body> {
        answer(method, || plain("{\"status\":\"ok\"}".to_owned()))
    }

    /// The answer to `/readyz`: 200 when work may come, 503 with the reason when not.
    #[must_use]
    pub fn ready(&self, method: &Method) -> Response<Body> {
        answer(method, || {
            let why = if self.draining.load(Ordering::Acquire) {
                "the gate is shutting down".to_owned()
            } else {
                match (self.engine)() {
                    EngineReadiness::Ready => return plain("{\"status\":\"ready\"}".to_owned()),
                    EngineReadiness::Loading(what) => format!("the engine is loading: {what}"),
                    EngineReadiness::Failed => "the engine has failed".to_owned(),
                }
            };
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, why).into()
        })
    }
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("draining", &self.draining).finish_non_exhaustive()
    }
}

fn answer(method: &Method, ok: impl FnOnce() -> Response<Body>) -> Response<Body> {
    match *method {
        Method::GET => ok(),
        Method::HEAD => ok().map(|_| Body::empty()),
        _ => Problem::method_not_allowed("GET, HEAD").into(),
    }
}

fn plain(json: String) -> Response<Body> {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loading_engine_is_not_ready_and_says_why() {
        let readiness = Readiness::new(|| EngineReadiness::Loading("unet".to_owned()));
        assert_eq!(readiness.ready(&Method::GET).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(Readiness::health(&Method::GET).status(), StatusCode::OK);
    }

    #[test]
    fn a_draining_gate_is_alive_and_not_ready() {
        let readiness = Readiness::new(|| EngineReadiness::Ready);
        assert_eq!(readiness.ready(&Method::HEAD).status(), StatusCode::OK);
        readiness.drain();
        assert_eq!(readiness.ready(&Method::GET).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(readiness.ready(&Method::POST).status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
