//! Takes the calls that ask for a socket, and hands the others on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::Either;
use http::header::USER_AGENT;
use http::{Request, Response};
use tokio::sync::watch;
use tower_layer::Layer;
use tower_service::Service;

use super::budget::InputBudget;
use super::dial::SocketDialer;
use super::metrics::RelayMetrics;
use super::open::{Opener, SocketCall};
use super::relay::Relay;
use super::rules::InputRules;
use super::settings::SocketSettings;
use super::token::FalTokens;
use super::tunnel::BufferPool;
use crate::upstream::error::ClientError;
use crate::upstream::pool::tls;
use crate::upstream::{Addresses, KeyRing, UpstreamSettings};
use crate::wire::SocketHandshake;
use crate::wire::{Body, CallKind, HostClass, MemoryBudget, RequestId, TargetUrl, ToProblem};

/// Makes [`SocketRelay`] out of a client that has the key.
///
/// Needs a [`TargetUrl`] in the request, and hyper's upgrade where that asks for a socket; holds its
/// [`SocketPass`](crate::wire::SocketPass) until the socket ends, and names the [`CallerNote`](crate::telemetry::CallerNote) of
/// the handshake in its log line. The inner service answers all
/// other calls, and mints the tokens that fal is shown: it must attach the key, as [`FalKeyLayer`](crate::upstream::FalKeyLayer) does.
///
/// ```
/// use falgate::upstream::{FalKeyLayer, KeyRing, SocketRelayLayer, UpstreamClient, UpstreamSettings};
/// use tower::ServiceBuilder;
///
/// let settings = UpstreamSettings::default();
/// let keys = KeyRing::single("id:secret".to_owned())?;
/// let fal = ServiceBuilder::new()
///     .layer(SocketRelayLayer::new(&settings, keys.clone())?)
///     .layer(FalKeyLayer::new(keys))
///     .service(UpstreamClient::new(settings)?);
/// # drop(fal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SocketRelayLayer {
    settings: Arc<SocketSettings>,
    addresses: Addresses,
    dialer: SocketDialer,
    keys: KeyRing,
    metrics: RelayMetrics,
    rules: Option<Arc<dyn InputRules>>,
    budget: Option<Arc<dyn InputBudget>>,
    drain: watch::Receiver<bool>,
}

impl SocketRelayLayer {
    /// Relays sockets to the addresses of `settings`, with these keys.
    ///
    /// # Errors
    /// [`ClientError`] when an address would show the key, or when the CA file cannot be used.
    pub fn new(settings: &UpstreamSettings, keys: KeyRing) -> Result<Self, ClientError> {
        if let Some((path, fault)) = settings.faults().into_iter().next() {
            return Err(ClientError::Settings { path, fault });
        }
        let (_, drain) = watch::channel(false);
        Ok(Self {
            settings: Arc::new(settings.sockets.clone()),
            addresses: settings.addresses.clone(),
            dialer: SocketDialer::new(tls(settings.ca_file.as_deref())?),
            keys,
            metrics: RelayMetrics::default(),
            rules: None,
            budget: None,
            drain,
        })
    }

    /// Counts into `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: RelayMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Holds inputs to these rules.
    #[must_use]
    pub fn with_rules(mut self, rules: Arc<dyn InputRules>) -> Self {
        self.rules = Some(rules);
        self
    }

    /// Charges inputs to this budget. Without one they are not counted.
    #[must_use]
    pub fn with_budget(mut self, budget: Arc<dyn InputBudget>) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Ends the sockets in good order once this becomes true.
    #[must_use]
    pub fn with_drain(mut self, drain: watch::Receiver<bool>) -> Self {
        self.drain = drain;
        self
    }
}

impl<S> Layer<S> for SocketRelayLayer
where
    S: Clone,
{
    type Service = SocketRelay<S>;

    fn layer(&self, inner: S) -> SocketRelay<S> {
        let opener = Opener {
            client: inner.clone(),
            keys: self.keys.clone(),
            dialer: self.dialer.clone(),
            address: self.addresses.of(HostClass::Run).clone(),
            auth: self.settings.auth,
            tokens: FalTokens::new(self.settings.token_life_s, self.metrics.clone()),
            limit: Duration::from_millis(self.settings.open_timeout_ms.get()),
            metrics: self.metrics.clone(),
        };
        let relay = Relay {
            opener,
            settings: Arc::clone(&self.settings),
            metrics: self.metrics.clone(),
            rules: self.rules.clone(),
            budget: self.budget.clone(),
            pool: BufferPool::new(self.settings.buffer_bytes.get()),
            memory: MemoryBudget::new(self.settings.held_bytes.get()),
            drain: self.drain.clone(),
        };
        SocketRelay { inner, relay: Arc::new(relay) }
    }
}

/// A client that relays sockets too; see [`SocketRelayLayer`].
///
/// A call of kind [`CallKind::Realtime`] is answered 101 whether or not fal opens its socket: what goes wrong is told on the
/// socket, because an answer of HTTP would lock older clients of fal's. Only what is no handshake is refused.
pub struct SocketRelay<S> {
    inner: S,
    relay: Arc<Relay<S>>,
}

impl<S: Clone> Clone for SocketRelay<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), relay: Arc::clone(&self.relay) }
    }
}

impl<S> std::fmt::Debug for SocketRelay<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketRelay").field("settings", &self.relay.settings).finish_non_exhaustive()
    }
}

type Answer = Result<Response<Body>, Infallible>;

impl<S> Service<Request<Body>> for SocketRelay<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, Pin<Box<dyn Future<Output = Answer> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let target = request.extensions().get::<TargetUrl>();
        let Some(target) = target.filter(|target| target.call().kind == CallKind::Realtime).cloned() else {
            return Either::Left(self.inner.call(request));
        };
        let handshake = match SocketHandshake::read(&request) {
            Ok(handshake) => handshake,
            Err(fault) => {
                let answer = Ok(fault.to_problem().into());
                return Either::Right(Box::pin(async move { answer }));
            }
        };
        let upgrade = hyper::upgrade::on(&mut request);
        let request_id = request.extensions().get::<RequestId>().map(|id| id.as_str().to_owned());
        let user_agent = request.headers().get(USER_AGENT).cloned();
        let relay = Arc::clone(&self.relay);
        let account = relay.account(&target, &request);
        let pass = request.extensions_mut().remove();
        let caller = request.extensions_mut().remove();
        let call = SocketCall { target, user_agent, request_id, caller, account, _pass: pass };
        Either::Right(Box::pin(async move {
            relay.take(call, upgrade).await;
            Ok(handshake.accept())
        }))
    }
}
