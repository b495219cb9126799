//! The limits over calls: charged when a call comes, settled when its answer is known.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready as at_once};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::cost::{Cost, Dimension};
use super::limits::Limits;
use super::passing::{Passed, announced, passing};
use super::price::Prices;
use super::receipt::Receipt;
use super::settings::Lasting;
use super::subject::Subject;
use crate::guard::{Caller, ClientAddr};
use crate::telemetry::WorkNote;
use crate::wire::{Body, BodyError, CallKind, MayHaveCost, SocketPass, TargetUrl, ToProblem as _};

/// The tier of a caller. Whoever says who calls puts it into the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tier(pub Arc<str>);

/// Limits how often calls are made, how many at once, and how much they cost in all.
///
/// Needs [`TargetUrl`] and [`ClientAddr`], reads [`Caller`] and [`Tier`]; adds the rate-limit headers. A refusal is answered
/// 429 with `retry-after`, or 403 for what is never allowed (413 for bytes). Bytes are those of the request's body: as it
/// announces, put right where less of it passes, and charged as they pass where it announces nothing; a body that is more
/// than its caller may send is cut, and answered like any refusal where no answer has begun. What an answer did not cost is given back: the work of a
/// failure that is not marked [`MayHaveCost`], and the difference to a [`WorkNote`]. A call without a [`TargetUrl`] passes. The place of a socket is
/// held by its [`SocketPass`]. Where limits are in a store that several gates share, a call waits for it; one that goes
/// away meanwhile goes no further.
///
/// ```
/// use falgate::guard::{LimitLayer, LimitSettings, Limits, Prices};
/// use falgate::wire::Body;
/// use tower::{ServiceBuilder, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let settings = LimitSettings::default();
/// let layer = LimitLayer::new(Limits::open(&settings)?, Prices::new(&settings));
/// let service = ServiceBuilder::new().layer(layer).service(service_fn(
///     |_: http::Request<Body>| async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())) },
/// ));
/// # drop(service);
/// # Ok::<(), falgate::guard::LimitError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct LimitLayer(Option<Charging>);

#[derive(Debug, Clone)]
struct Charging {
    limits: Limits,
    prices: Prices,
}

impl LimitLayer {
    /// Charges calls to `limits` by `prices`.
    #[must_use]
    pub fn new(limits: Limits, prices: Prices) -> Self {
        Self(Some(Charging { limits, prices }))
    }

    /// Limits nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, charging: self.0.clone() }
    }
}

/// The service of [`LimitLayer`].
#[derive(Debug, Clone)]
pub struct Limited<S> {
    inner: S,
    charging: Option<Charging>,
}

/// Who calls, as the request's extensions say.
#[must_use]
pub fn subject_of<B>(request: &Request<B>) -> Subject {
    let extensions = request.extensions();
    Subject {
        address: extensions.get::<ClientAddr>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0),
        caller: extensions.get::<Caller>().map(|caller| Arc::clone(&caller.name)),
        tier: extensions.get::<Tier>().map(|tier| Arc::clone(&tier.0)),
        endpoint: extensions.get::<TargetUrl>().and_then(|target| target.call().endpoint.clone()),
    }
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future =
        Either<Charged<S::Future>, Either<Ready<Outcome<S>>, Pin<Box<dyn Future<Output = Outcome<S>> + Send>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let charging = self.charging.as_ref().filter(|charging| !charging.limits.are_off());
        let Some((charging, ask)) = charging.and_then(|charging| Some((charging, charging.ask(&request)?))) else {
            return Either::Left(Charged { inner: self.inner.call(request), receipt: None, passed: None });
        };
        if charging.limits.is_shared() {
            let limits = charging.limits.clone();
            let ready = self.inner.clone();
            let mut inner = std::mem::replace(&mut self.inner, ready);
            return Either::Right(Either::Right(Box::pin(async move {
                match limits.charge_soon(&ask.subject, ask.cost, Some(ask.lasting)).await {
                    Ok(receipt) => {
                        let (receipt, passed) = ask.hand_over(&limits, receipt, &mut request);
                        Charged { inner: inner.call(request), receipt, passed }.await
                    }
                    Err(refusal) => Ok(refusal.to_problem().into()),
                }
            })));
        }
        match charging.limits.charge(&ask.subject, ask.cost, Some(ask.lasting)) {
            Ok(receipt) => {
                let (receipt, passed) = ask.hand_over(&charging.limits, receipt, &mut request);
                Either::Left(Charged { inner: self.inner.call(request), receipt, passed })
            }
            Err(refusal) => Either::Right(Either::Left(at_once(Ok(refusal.to_problem().into())))),
        }
    }
}

type Outcome<S> = Result<Response<Body>, <S as Service<Request<Body>>>::Error>;

/// What is charged for a call.
struct Ask {
    subject: Subject,
    cost: Cost,
    lasting: Lasting,
}

impl Charging {
    /// What a call costs, and whom; `None` where it is no call.
    fn ask(&self, request: &Request<Body>) -> Option<Ask> {
        let call = request.extensions().get::<TargetUrl>().map(TargetUrl::call)?;
        let cost = self.prices.call(call, announced(request.body()));
        let lasting = if call.kind == CallKind::Realtime { Lasting::Sockets } else { Lasting::Requests };
        Some(Ask { subject: subject_of(request), cost, lasting })
    }
}

impl Ask {
    /// What to settle when the call is answered. The receipt of a socket goes with the request, to whoever keeps the socket.
    fn hand_over(
        self,
        limits: &Limits,
        receipt: Receipt,
        request: &mut Request<Body>,
    ) -> (Option<Receipt>, Option<Arc<Passed>>) {
        if self.lasting == Lasting::Requests {
            let passed = passing(request.body_mut(), limits, || self.subject);
            return (Some(receipt), passed);
        }
        let outer = request.extensions().get::<SocketPass>().cloned();
        request.extensions_mut().insert(SocketPass::new((outer, receipt)));
        (None, None)
    }
}

pin_project! {
    /// The answer to a call that was charged.
    pub struct Charged<F> {
        #[pin]
        inner: F,
        receipt: Option<Receipt>,
        passed: Option<Arc<Passed>>,
    }
}

impl<F, E> Future for Charged<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = match ready!(this.inner.poll(cx)) {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(mut receipt) = this.receipt.take() {
                    receipt.settle_without_work();
                }
                return Poll::Ready(Err(error));
            }
        };
        let Some(mut receipt) = this.receipt.take() else { return Poll::Ready(Ok(answer)) };
        if let Some(refusal) = this.passed.as_ref().and_then(|passed| passed.refusal()) {
            // Whatever was made of half a body: its caller has sent more than it may.
            answer = refusal.to_problem().into();
        }
        settle(&mut receipt, &answer, this.passed.as_ref());
        receipt.tell(answer.headers_mut());
        if receipt.holds_places() {
            answer = answer.map(|body| Body::new(HeldBody { body, _receipt: receipt }));
        }
        Poll::Ready(Ok(answer))
    }
}

fn settle(receipt: &mut Receipt, answer: &Response<Body>, passed: Option<&Arc<Passed>>) {
    if let Some(passed) = passed {
        let real = passed.real(receipt.cost());
        if real != receipt.cost() {
            receipt.settle(real);
        }
    }
    let is_failure = answer.status().is_client_error() || answer.status().is_server_error();
    if is_failure && answer.extensions().get::<MayHaveCost>().is_none() {
        receipt.settle_without_work();
    } else if let Some(work) = answer.extensions().get::<WorkNote>() {
        receipt.settle(real_cost(receipt.cost(), work));
    }
}

/// The estimate with what the work really was.
#[must_use]
pub fn real_cost(estimate: Cost, work: &WorkNote) -> Cost {
    let device = u64::try_from(work.device.as_millis()).unwrap_or(u64::MAX);
    let pictures = estimate.cells(Dimension::Pictures).saturating_mul(u64::from(work.pictures));
    let cents = estimate.cells(Dimension::Cents).saturating_mul(u64::from(work.pictures));
    let real = estimate.with_cells(Dimension::Pictures, pictures).with_cells(Dimension::Cents, cents);
    real.with_cells(Dimension::GpuMs, device)
}

pin_project! {
    /// A body whose end gives back what lasted as long as it.
    struct HeldBody {
        #[pin]
        body: Body,
        _receipt: Receipt,
    }
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
