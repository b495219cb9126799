//! One HTTP/1 connection: parked without buffers while it is quiet; while it is not, plain requests are answered at once, and
//! hyper serves the others.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower_service::Service;

use super::connections::Stage;
use super::io::{GuardedIo, Http2, Waiting};
use super::quick::{self, Left};
use super::service::EdgeService;
use super::settings::{LimitSettings, ms};
use crate::upstream::Alarm;
use crate::wire::{Body, BodyError};

/// Bytes that an answer may fill ahead of its reader.
const AHEAD: usize = 64 * 1024;

fn builder(settings: &LimitSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The framer in front is stricter than either limit; they are here so that hyper's own never answer first.
    builder.max_buf_size(AHEAD.max(settings.head_bytes.get() + 8 * 1024));
    let fields = settings.head_fields.get();
    if fields > 100 {
        builder.max_headers(fields);
    }
    builder
}

/// What waits on a quiet connection. Gives the connection back unless it has ended.
pub(super) async fn wait<T>(io: &mut GuardedIo<T>, http2: Http2) -> Waiting
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut watch = io.pass().connections().watch();
    std::future::poll_fn(|cx| {
        let stage = watch.poll(cx);
        if stage == Stage::Closing || (stage == Stage::Draining && io.ahead().is_empty()) {
            return Poll::Ready(Waiting::End);
        }
        io.poll_request(cx, http2)
    })
    .await
}

/// Serves requests until the connection ends. `io` holds a whole head.
pub(super) async fn serve<T, S, B>(mut io: GuardedIo<T>, service: EdgeService<S>, settings: &LimitSettings)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let builder = builder(settings);
    let old_at = settings.age().map(|age| Instant::now() + age);
    loop {
        // Boxed, so that a parked connection does not keep the room for what it does when it is busy.
        match Box::pin(quick::serve(&mut io, &service, settings, old_at)).await {
            Left::Ended => return,
            Left::Quiet => {}
            Left::Other => {
                let Some(quiet) = Box::pin(busy(io, &service, &builder, settings, old_at)).await else { return };
                io = quiet;
            }
        }
        io.give_back_buffers();
        io.idle_until = Some(Instant::now() + ms(settings.idle_ms).saturating_sub(ms(settings.park_ms)));
        if let (Some(idle), Some(old)) = (io.idle_until, old_at) {
            io.idle_until = Some(idle.min(old));
        }
        if !matches!(wait(&mut io, Http2::No).await, Waiting::Request) {
            return;
        }
    }
}

/// Lets hyper serve until the connection falls quiet, and takes it back then; `None` when it has ended.
async fn busy<T, S, B>(
    mut io: GuardedIo<T>,
    service: &EdgeService<S>,
    builder: &http1::Builder,
    settings: &LimitSettings,
    old_at: Option<Instant>,
) -> Option<GuardedIo<T>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    io.idle_until = None;
    let shared = std::sync::Arc::clone(&io.shared);
    let mut watch = io.pass().connections().watch();
    let mut ending = false;
    let mut alarm = Alarm::default();
    let mut quiet: Option<(u32, Instant)> = None;
    let mut connection = builder.serve_connection(TokioIo::new(io), service.clone()).with_upgrades();
    let ended = std::future::poll_fn(|cx| {
        let stage = watch.poll(cx);
        let old = old_at.is_some_and(|at| at <= Instant::now());
        if (stage > Stage::Serving || old) && !ending {
            ending = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if stage == Stage::Closing {
            return Poll::Ready(true);
        }
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        let seen = shared.seen.load(Ordering::Acquire);
        let is_quiet = shared.in_flight.load(Ordering::Acquire) == 0
            && shared.between.load(Ordering::Acquire)
            && !shared.blocked.load(Ordering::Acquire);
        if !is_quiet || ending {
            quiet = None;
            return Poll::Pending;
        }
        let since = match quiet {
            Some((then, since)) if then == seen => since,
            _ => Instant::now(),
        };
        quiet = Some((seen, since));
        alarm.poll(cx, since + ms(settings.park_ms)).map(|()| false)
    })
    .await;
    if ended {
        return None;
    }
    let parts = connection.into_parts()?;
    let mut io = parts.io.into_inner();
    io.put_back(&parts.read_buf);
    Some(io)
}
