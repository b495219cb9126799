//! The tower service that answers plain fal calls from an engine.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use super::answer;
use super::fetch::{FetchSetupError, Fetcher};
use super::pictures::PicturePool;
use super::realtime::{FrameBudget, SocketMetrics};
use super::run::Ran;
use super::storage::{FilesService, Storage};
use super::waiting::WaitingRoom;
use super::{HostError, HostSettings};
use crate::engine::{Engine, EngineState, Posterior};
use crate::telemetry::CallNote;
use crate::wire::{Body, CallKind, FalCall, MemoryBudget, Problem, PublicOrigin, TargetUrl, ToProblem as _, collect};

/// An announcement of an upload is two short strings.
const MAX_INITIATE_BYTES: u64 = 64 * 1024;

/// Answers plain fal calls from an engine: runs, sockets, health, and announced uploads.
///
/// Needs `TargetUrl` and `PublicOrigin` in the request's extensions, adds [`CallNote`] to the response's. A socket's handshake
/// is answered with 101, which takes a server that upgrades connections; `SocketPass` is held until the socket ends. Calls of
/// other kinds are answered 501. Cheap to clone; clones share everything.
///
/// ```no_run
/// use falgate::engine::Engine;
/// use falgate::host::{HostService, HostSettings};
///
/// fn host(engine: Engine) -> Result<HostService, Box<dyn std::error::Error>> {
///     Ok(HostService::new(engine, HostSettings::default())?)
/// }
/// ```
#[derive(Clone)]
pub struct HostService {
    host: Arc<Host>,
}

/// What answers are made of.
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) settings: HostSettings,
    pub(super) posterior: Posterior,
    pub(super) public: Option<PublicOrigin>,
    pub(super) pool: PicturePool,
    pub(super) fetcher: Fetcher,
    pub(super) storage: Storage,
    pub(super) runs: Semaphore,
    /// As many sockets may hold a decoded picture that is not queued yet.
    pub(super) drawings: Semaphore,
    pub(super) bodies: MemoryBudget,
    pub(super) socket_metrics: SocketMetrics,
    /// Places at the engine; `None` where callers need none.
    pub(super) waiting: Option<WaitingRoom>,
    pub(super) frame_budget: Option<Arc<dyn FrameBudget>>,
    /// True once the gate drains; `None` where nobody will say so.
    pub(super) drain: Option<watch::Receiver<bool>>,
}

impl HostService {
    /// A service over `engine`, which may still be loading: runs are answered 503 until it is ready.
    ///
    /// # Errors
    /// [`FetchSetupError`] when `fetch.ca_file` cannot be used.
    pub fn new(engine: Engine, settings: HostSettings) -> Result<Self, FetchSetupError> {
        let fetcher = Fetcher::new(settings.fetch.clone())?;
        Ok(Self::with_fetcher(engine, settings, fetcher))
    }

    /// A service that fetches pictures with `fetcher`; `settings.fetch` is not looked at.
    #[must_use]
    pub fn with_fetcher(engine: Engine, settings: HostSettings, fetcher: Fetcher) -> Self {
        let host = Host {
            engine,
            posterior: Posterior::default(),
            public: None,
            pool: PicturePool::new(&settings.pictures),
            fetcher,
            storage: Storage::new(settings.storage.clone()),
            bodies: MemoryBudget::new(settings.bodies_bytes.get()),
            runs: Semaphore::new(settings.runs_at_once.get().min(Semaphore::MAX_PERMITS)),
            drawings: Semaphore::new(settings.runs_at_once.get().min(Semaphore::MAX_PERMITS)),
            socket_metrics: SocketMetrics::default(),
            waiting: None,
            frame_budget: None,
            drain: None,
            settings,
        };
        Self { host: Arc::new(host) }
    }

    /// Reads the encoder's posterior in this way, for all runs.
    ///
    /// # Panics
    /// If the service was cloned before.
    #[must_use]
    pub fn with_posterior(mut self, posterior: Posterior) -> Self {
        self.fresh().posterior = posterior;
        self
    }

    /// Also takes files of this origin for its own, and uses it for requests that carry none.
    ///
    /// # Panics
    /// If the service was cloned before.
    #[must_use]
    pub fn with_public_origin(mut self, origin: PublicOrigin) -> Self {
        self.fresh().public = Some(origin);
        self
    }

    /// Counts sockets into `metrics`.
    ///
    /// # Panics
    /// If the service was cloned before.
    #[must_use]
    pub fn with_socket_metrics(mut self, metrics: SocketMetrics) -> Self {
        self.fresh().socket_metrics = metrics;
        self
    }

    /// Asks `budget` before an input of a socket is rendered.
    ///
    /// # Panics
    /// If the service was cloned before.
    #[must_use]
    pub fn with_frame_budget(mut self, budget: Arc<dyn FrameBudget>) -> Self {
        self.fresh().frame_budget = Some(budget);
        self
    }

    /// Gives callers places at the engine, and lets wait who finds none.
    ///
    /// # Panics
    /// If the service was cloned before.
    #[must_use]
    pub fn with_waiting_room(mut self, room: WaitingRoom) -> Self {
        self.fresh().waiting = Some(room);
        self
    }

    /// Ends its sockets in good order once `drain` is true. Without this they live until the connection is cut.
    ///
    /// # Panics
    /// If the service was cloned before.
    #[must_use]
    pub fn with_drain(mut self, drain: watch::Receiver<bool>) -> Self {
        self.fresh().drain = Some(drain);
        self
    }

    fn fresh(&mut self) -> &mut Host {
        Arc::get_mut(&mut self.host).expect("a service is set up before it is cloned")
    }

    /// The service for everything below [`super::storage::FILES_PATH`]. It shares this one's files.
    #[must_use]
    pub fn files(&self) -> FilesService {
        self.host.storage.files()
    }
}

impl Host {
    async fn answer(self: &Arc<Self>, request: Request<Body>) -> Response<Body> {
        let Some(target) = request.extensions().get::<TargetUrl>() else {
            return Problem::not_found(request.uri().path()).into();
        };
        let call = target.call().clone();
        let (mut response, waited) = match self.dispatch(&call, request).await {
            Ok(Ran { response, waited }) => (response, waited),
            Err(error) => {
                let problem = error.to_problem();
                log_failure(&error, &problem);
                (problem.into(), Duration::ZERO)
            }
        };
        let endpoint = call.endpoint.map(|endpoint| endpoint.as_str().to_owned());
        response.extensions_mut().insert(CallNote { endpoint, kind: call.kind.as_str(), route: "engine", waited });
        response
    }

    async fn dispatch(self: &Arc<Self>, call: &FalCall, request: Request<Body>) -> Result<Ran, HostError> {
        if let Some(endpoint) = &call.endpoint
            && !endpoint.path().is_empty()
            && !self.settings.paths.iter().any(|pattern| pattern.matches(endpoint))
        {
            return Err(HostError::UnknownPath { path: format!("/{}", endpoint.path()) });
        }
        let at_once = |response| Ran { response, waited: Duration::ZERO };
        match call.kind {
            CallKind::Run => Box::pin(self.run(request)).await,
            CallKind::Health => Ok(at_once(self.health())),
            CallKind::Initiate => self.initiate(request).await.map(at_once),
            CallKind::UploadToken => {
                let origin = self.origin(&request).ok_or(HostError::NoOrigin)?;
                Ok(at_once(answer::json(&self.storage.upload_token(&origin))))
            }
            CallKind::Realtime => self.realtime(call, request).map(at_once),
            CallKind::Stream
            | CallKind::Submit
            | CallKind::Status
            | CallKind::StatusStream
            | CallKind::Result
            | CallKind::Cancel
            | CallKind::Token
            | CallKind::InitiateMultipart
            | CallKind::WebhookKeys => Err(HostError::NotHosted { kind: call.kind.as_str() }),
        }
    }

    async fn initiate(&self, request: Request<Body>) -> Result<Response<Body>, HostError> {
        let origin = self.origin(&request).ok_or(HostError::NoOrigin)?;
        let (parts, body) = request.into_parts();
        let body = collect(body, MAX_INITIATE_BYTES).await.map_err(HostError::Body)?;
        Ok(answer::json(&self.storage.initiate(&body, &parts.headers, &origin)?))
    }

    fn health(&self) -> Response<Body> {
        let status = match &*self.engine.state().borrow() {
            EngineState::Ready => "ready",
            EngineState::Loading { .. } => "loading",
            EngineState::Failed(_) => "failed",
            EngineState::Stopped => "stopped",
        };
        answer::json(&json!({ "status": status }))
    }

    /// The origin that URLs in this request's answer start with.
    pub(super) fn origin(&self, request: &Request<Body>) -> Option<PublicOrigin> {
        request.extensions().get::<PublicOrigin>().or(self.public.as_ref()).cloned()
    }
}

/// Logs what is our own trouble; what the caller did wrong is in the request log already.
pub(super) fn log_failure(error: &HostError, problem: &Problem) {
    if problem.status().is_server_error() && problem.status() != http::StatusCode::NOT_IMPLEMENTED {
        let error: &(dyn std::error::Error + 'static) = error;
        tracing::warn!(error, status = problem.status().as_u16(), "a hosted call failed");
    }
}

impl Service<Request<Body>> for HostService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let host = Arc::clone(&self.host);
        Box::pin(async move { Ok(host.answer(request).await) })
    }
}
