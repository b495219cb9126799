//! One HTTP/2 connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tower_service::Service;

use super::connections::Stage;
use super::deadline::PaceRule;
use super::io::GuardedIo;
use super::service::EdgeService;
use super::settings::{LimitSettings, ms};
use super::stalls::Stalls;
use crate::upstream::Alarm;
use crate::wire::{Body, BodyError};

/// Streams that a client may have us reset by its own errors before the connection goes.
const LOCAL_RESETS: usize = 256;
/// Streams that a client may reset before they were looked at.
const PENDING_RESETS: usize = 20;
/// Bytes of one answer that may wait for its window.
const AHEAD: usize = 64 * 1024;
/// What HPACK counts on top of the bytes of each field (RFC 9113, 6.5.2).
const FIELD_OVERHEAD: usize = 32;

fn builder(settings: &LimitSettings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let head = settings.head_bytes.get() + settings.head_fields.get() * FIELD_OVERHEAD;
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.http2_streams.get())
        .initial_stream_window_size(settings.http2_stream_window_bytes.get())
        .initial_connection_window_size(settings.http2_window_bytes.get())
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_send_buf_size(AHEAD)
        .keep_alive_interval(ms(settings.http2_ping_ms))
        .keep_alive_timeout(ms(settings.http2_ping_ms));
    builder
}

/// Serves requests until the connection ends. `io` has seen the preface.
pub(super) async fn serve<T, S, B>(io: GuardedIo<T>, mut service: EdgeService<S>, settings: &LimitSettings)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    let shared = Arc::clone(&io.shared);
    let stalls = Arc::new(Stalls::default());
    service.stalls = Some(Arc::clone(&stalls));
    service.pace = Some(PaceRule::of_bodies(settings));
    let mut watch = io.pass().connections().watch();
    let mut alarm = Alarm::default();
    let born = Instant::now();
    let patience = ms(settings.write_idle_ms);
    let mut quiet: Option<(u32, Instant)> = None;
    let mut ending: Option<Instant> = None;
    let mut connection = pin!(builder(settings).serve_connection(TokioIo::new(io), service));
    std::future::poll_fn(|cx| {
        let stage = watch.poll(cx);
        if stage == Stage::Closing {
            return Poll::Ready(());
        }
        if stage == Stage::Draining && ending.is_none() {
            // The deadline of the whole drain cuts what does not end by itself.
            ending = Some(Instant::now() + Duration::from_secs(24 * 60 * 60));
            connection.as_mut().graceful_shutdown();
        }
        loop {
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let now = Instant::now();
            let seen = shared.seen.load(Ordering::Acquire);
            quiet = match quiet {
                _ if shared.in_flight.load(Ordering::Acquire) > 0 => None,
                Some((then, since)) if then == seen => Some((seen, since)),
                _ => Some((seen, now)),
            };
            let idle_at = quiet.map(|(_, since)| since + ms(settings.idle_ms));
            let old_at = settings.age().map(|age| born + age);
            let stalled = stalls.longest() >= patience;
            let over = stalled || idle_at.is_some_and(|at| at <= now) || old_at.is_some_and(|at| at <= now);
            if over && ending.is_none() {
                // Others on this connection may finish, for as long as the patience with this one was.
                ending = Some(now + patience);
                connection.as_mut().graceful_shutdown();
                continue;
            }
            let next = match ending {
                Some(at) if at <= now => return Poll::Ready(()),
                Some(at) => at,
                None => [idle_at, old_at].into_iter().flatten().fold(now + patience / 2, Instant::min),
            };
            if alarm.poll(cx, next).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}
