//! Leads handshakes to whoever answers them, and everything else past.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response, StatusCode};
use tower_service::Service;

use super::entrance::{Admission, Entrance, Refusal};
use super::metrics::{Refused, SocketDoorMetrics};
use super::turn_away::turn_away;
use crate::gate::accept::{Connections, TooMany};
use crate::guard::{ClientAddr, PeerAddr};
use crate::telemetry::{CallNote, CallerNote};
use crate::wire::{Body, Problem, SocketHandshake, SocketPass, ToProblem as _};

/// How long a page should wait where too many sockets are open.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// Leads requests that ask for a socket to `sockets`, and all others to `direct`.
///
/// Needs [`ClientAddr`]. Adds [`crate::wire::TargetUrl`], [`SocketPass`] and, where they are known, [`crate::guard::Caller`],
/// [`CallerNote`] and [`crate::guard::Tier`];
/// takes the token out of the URL and `authorization` out of the headers. Foreign pages must have been refused before. A
/// socket over a limit is refused with 429 or 503; a token or key that opens nothing is answered on the socket.
#[derive(Debug, Clone)]
pub struct SocketDoor<S, D> {
    sockets: S,
    direct: D,
    entrance: Arc<Entrance>,
    /// The sockets that are open, in all and per address.
    register: Connections,
    metrics: SocketDoorMetrics,
}

impl<S, D> SocketDoor<S, D> {
    /// A door with this entrance, whose sockets are counted in `register`.
    pub fn new(sockets: S, direct: D, entrance: Arc<Entrance>, register: Connections) -> Self {
        Self { sockets, direct, entrance, register, metrics: SocketDoorMetrics::default() }
    }

    /// Counts into `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: SocketDoorMetrics) -> Self {
        self.metrics = metrics;
        self
    }
}

type Answer = Result<Response<Body>, Infallible>;
/// The request as it goes on, and what the log should know of its caller.
type LetIn = (Request<Body>, Option<CallerNote>);
type Boxed = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl<S, D> Service<Request<Body>> for SocketDoor<S, D>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    D: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<D::Future, Either<Boxed, Ready<Answer>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match (self.sockets.poll_ready(cx), self.direct.poll_ready(cx)) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !SocketHandshake::is_asked_for(request.headers()) {
            return Either::Left(self.direct.call(request));
        }
        Either::Right(match self.let_in(request) {
            Ok((request, note)) => {
                let opening = self.sockets.call(request);
                Either::Left(Box::pin(async move {
                    let mut answer = opening.await?;
                    if let Some(note) = note {
                        answer.extensions_mut().insert(note);
                    }
                    Ok(answer)
                }))
            }
            Err(answer) => Either::Right(ready(Ok(*answer))),
        })
    }
}

impl<S, D> SocketDoor<S, D> {
    fn let_in(&self, mut request: Request<Body>) -> Result<LetIn, Box<Response<Body>>> {
        let refuse = |why: Refused, problem: Problem| {
            self.metrics.refused(why);
            Box::new(Response::from(problem))
        };
        let handshake = SocketHandshake::read(&request);
        let handshake = handshake.map_err(|fault| refuse(Refused::BadRequest, fault.to_problem()))?;
        let extensions = request.extensions();
        let client = extensions.get::<ClientAddr>().map(|client| client.0);
        let address = client.or_else(|| extensions.get::<PeerAddr>().map(|peer| peer.0.ip()));
        let pass = self.register.admit(address).map_err(|many| refuse(Refused::TooMany, too_many(many)))?;
        let admitted = self.entrance.judge(&mut request);
        let Admission { target, caller, tier, seat } = match admitted {
            Ok(admission) => admission,
            Err(Refusal::Answer(problem) | Refusal::Closed(problem)) => {
                return Err(refuse(Refused::BadRequest, problem));
            }
            Err(Refusal::Unauthorized) => {
                self.metrics.refused(Refused::Unauthorized);
                // The task ends within seconds, by its own deadline.
                tokio::spawn(turn_away(hyper::upgrade::on(&mut request), SocketPass::new(pass)));
                let mut answer = handshake.accept();
                answer.extensions_mut().insert(unauthorized_note());
                return Err(Box::new(answer));
            }
        };
        let note = caller.as_ref().map(|caller| CallerNote(Arc::clone(&caller.name)));
        let extensions = request.extensions_mut();
        extensions.insert(target);
        if let Some(note) = &note {
            extensions.insert(note.clone());
        }
        extensions.insert(SocketPass::new((pass, seat)));
        if let Some(caller) = caller {
            extensions.insert(caller);
        }
        if let Some(tier) = tier {
            extensions.insert(tier);
        }
        Ok((request, note))
    }
}

fn unauthorized_note() -> CallNote {
    CallNote { endpoint: None, kind: "unauthorized", route: "gate", waited: Duration::ZERO }
}

fn too_many(many: TooMany) -> Problem {
    match many {
        TooMany::InAll => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many sockets are open, try again")
            .with_header(http::header::RETRY_AFTER, http::HeaderValue::from(FULL_WAIT.as_secs())),
        TooMany::FromAddress => Problem::rate_limited("too many sockets are open from this address", FULL_WAIT),
    }
}
