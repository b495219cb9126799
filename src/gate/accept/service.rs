//! Between hyper and the first service: marks each request with its peer, and knows when its answer has ended.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::deadline::PaceRule;
use super::framing::HeadLimits;
use super::io::Shared;
use super::paced::PacedBody;
use super::request;
use super::stalls::{Mark, Stalls};
use crate::guard::PeerAddr;
use crate::wire::Body;

/// Where a clone of the service waits for its next request.
pub(super) type Spare<S> = Arc<Mutex<Option<Box<S>>>>;

/// The service of one connection.
#[derive(Debug, Clone)]
pub(super) struct EdgeService<S> {
    pub(super) service: S,
    /// A clone whose last request has been called: the next one takes it instead of cloning again.
    pub(super) spare: Spare<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) peer: SocketAddr,
    pub(super) limits: HeadLimits,
    /// Where HTTP/2 answers note that nobody takes them.
    pub(super) stalls: Option<Arc<Stalls>>,
    /// The pace of HTTP/2 bodies. HTTP/1 bodies are held to theirs where their bytes are read.
    pub(super) pace: Option<PaceRule>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for EdgeService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    B: HttpBody<Data = Bytes>,
{
    type Response = Response<EdgeBody<B>>;
    type Error = Infallible;
    type Future = Call<S, S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.enter(request.map(Body::from))
    }
}

impl<S> EdgeService<S> {
    /// Begins to answer a request.
    pub(super) fn enter<B>(&self, request: Request<Body>) -> Call<S, S::Future>
    where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
        B: HttpBody<Data = Bytes>,
    {
        self.shared.in_flight.fetch_add(1, Ordering::AcqRel);
        self.shared.seen.fetch_add(1, Ordering::AcqRel);
        let flight = Flight(Arc::clone(&self.shared));
        let (mut parts, body) = request.into_parts();
        let is_http2 = parts.version == Version::HTTP_2;
        if is_http2 || self.shared.underscores.load(Ordering::Acquire) {
            request::drop_underscores(&mut parts.headers);
        }
        if is_http2 && let Err(fault) = request::check_http2(&mut parts, &self.limits) {
            parts.extensions.insert(fault);
        }
        request::mark_secrets(&mut parts.headers);
        parts.extensions.insert(PeerAddr(self.peer));
        let upgrade = !is_http2 && parts.headers.contains_key(http::header::UPGRADE);
        let body = match self.pace {
            Some(rule) if !body.is_end_stream() => Body::new(PacedBody::new(body, rule)),
            _ => body,
        };
        let request = Request::from_parts(parts, body);
        let mark = self.stalls.as_ref().map(|stalls| stalls.mark());
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let service = spare.unwrap_or_else(|| Box::new(self.service.clone()));
        Call {
            state: State::Waiting { service: Some(service), spare: Arc::clone(&self.spare), request: Some(request) },
            flight: Some((flight, mark)),
            upgrade,
        }
    }
}

pin_project! {
    /// One request on its way: waits until the service is ready, then for its answer.
    pub(super) struct Call<S, F> {
        #[pin]
        state: State<S, F>,
        flight: Option<(Flight, Option<Mark>)>,
        upgrade: bool,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<S, F> {
        Waiting { service: Option<Box<S>>, spare: Spare<S>, request: Option<Request<Body>> },
        Calling { #[pin] future: F },
    }
}

impl<S, B> Future for Call<S, S::Future>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Output = Result<Response<EdgeBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let future = match this.state.as_mut().project() {
                StateProjected::Waiting { service, spare, request } => {
                    let once = "taken once, on the way out of this state";
                    let Ok(()) = ready!(service.as_mut().expect(once).poll_ready(cx));
                    let mut service = service.take().expect(once);
                    let future = service.call(request.take().expect(once));
                    *spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(service);
                    future
                }
                StateProjected::Calling { future } => {
                    let Ok(response) = ready!(future.poll(cx));
                    let (flight, mark) = this.flight.take().expect("a future is not polled after it was ready");
                    if *this.upgrade {
                        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                        let word = if switched { &flight.0.upgraded } else { &flight.0.stayed };
                        word.store(true, Ordering::Release);
                        flight.0.held.wake();
                    }
                    return Poll::Ready(Ok(response.map(|body| EdgeBody { body, mark, _flight: flight })));
                }
            };
            this.state.set(State::Calling { future });
        }
    }
}

/// Counts a request as in flight until it is dropped.
#[derive(Debug)]
pub(super) struct Flight(Arc<Shared>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

pin_project! {
    /// The body of an answer. While it lives, the request is in flight.
    #[derive(Debug)]
    pub(super) struct EdgeBody<B> {
        #[pin]
        body: B,
        mark: Option<Mark>,
        _flight: Flight,
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for EdgeBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(mark) = this.mark {
            mark.set(frame.is_ready());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
