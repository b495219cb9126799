//! From a handshake to a socket with a task of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::end::End;
use super::farewell::farewell;
use super::line::{self, Metered};
use super::meter::Meter;
use super::metrics::Open;
use super::metrics::Tally;
use super::seat::Seat;
use super::socket::Socket;
use crate::engine::Lane;
use crate::guard::{Subject, subject_of};
use crate::host::{Host, HostError};
use crate::wire::{Body, EndpointId, FalCall, RequestId, SocketHandshake, SocketPass, SocketWishes};

/// A socket from its handshake to its end. Dropping it writes the socket's line.
struct Record {
    seat: Arc<Seat>,
    request_id: Option<RequestId>,
    began: Instant,
    tally: Tally,
    end: End,
    _open: Open,
    _pass: Option<SocketPass>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let tally = &self.tally;
        self.seat.metrics().ended(self.end.word());
        tracing::info!(
            request_id = self.request_id.as_ref().map(RequestId::as_str),
            endpoint = self.seat.subject.endpoint.as_ref().map(EndpointId::as_str),
            caller = self.seat.subject.caller.as_deref(),
            end = self.end.word().as_str(),
            inputs = tally.inputs,
            results = tally.results,
            errors = tally.errors,
            superseded = tally.superseded,
            stale = tally.stale,
            similar = tally.similar,
            bytes_in = tally.bytes_in,
            bytes_out = tally.bytes_out,
            seconds = self.began.elapsed().as_secs_f64(),
            "a socket ended"
        );
    }
}

impl Host {
    /// Answers a handshake with 101; a task of its own serves the socket from then on, until the page, a limit or the drain
    /// ends it. What the page asked for dies with the socket.
    pub(in crate::host) fn realtime(
        self: &Arc<Self>,
        call: &FalCall,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, HostError> {
        let handshake = SocketHandshake::read(&request).map_err(HostError::Handshake)?;
        let upgrade = hyper::upgrade::on(&mut request);
        let origin = self.origin(&request);
        let wishes = SocketWishes::read(request.uri().query().unwrap_or_default());
        let subject = Subject { endpoint: call.endpoint.clone(), ..subject_of(&request) };
        let mut extensions = std::mem::take(request.extensions_mut());
        let seat = Arc::new(Seat { host: Arc::clone(self), origin, wishes, subject, lane: Lane::new() });
        let record = Record {
            request_id: extensions.remove(),
            began: Instant::now(),
            tally: Tally::default(),
            end: End::Lost,
            _open: self.socket_metrics.opened(),
            _pass: extensions.remove(),
            seat,
        };
        tokio::spawn(serve(upgrade, record));
        Ok(handshake.accept())
    }
}

async fn serve(upgrade: OnUpgrade, mut record: Record) {
    // Whoever leaves before the switch was never here.
    let Ok(upgraded) = upgrade.await else { return };
    let (seat, now) = (Arc::clone(&record.seat), Instant::now());
    let settings = seat.settings();
    let meter = Meter::new(settings, seat.host.bodies.clone(), now);
    let line = line::open(Metered::new(TokioIo::new(upgraded), meter, now), settings);
    let drain = Box::pin(drained(seat.host.drain.clone(), settings.drain_after(rand::random::<f64>())));
    let mut socket = Box::new(Socket::new(Arc::clone(&seat), line, drain));
    let going = std::future::poll_fn(|cx| socket.poll(cx));
    // A bug in a decoder ends this socket, with a word, and no other.
    record.end = AssertUnwindSafe(going).catch_unwind().await.unwrap_or(End::Failed);
    record.tally = socket.tally;
    Box::pin(farewell(socket.into_line(), record.end, settings.farewell)).await;
}

/// Ready once the gate drains, and this socket's turn has come.
async fn drained(drain: Option<watch::Receiver<bool>>, turn: Duration) {
    if let Some(mut drain) = drain
        && drain.wait_for(|drains| *drains).await.is_ok()
    {
        return sleep(turn).await;
    }
    // Nobody would say so: then nobody drains.
    std::future::pending::<()>().await;
}
