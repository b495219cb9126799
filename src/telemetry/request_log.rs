//! The layer that counts each request and writes its one line.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Extensions, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::request_line::{End, RequestLine};
use super::{CallNote, CallerNote, HttpMetrics, LogFormat, LogWriter};

/// Who asks, for the line. The gate reads it off the request's extensions, because this room knows no other.
#[derive(Debug, Clone, Default)]
pub struct LogSubject {
    /// The request's id.
    pub request_id: Option<HeaderValue>,
    /// The caller's address.
    pub client: Option<IpAddr>,
}

/// Writes one line per request when its answer has ended, and counts it.
///
/// Needs whatever `describe` reads; reads a [`CallNote`] off the response. The line holds the path without its query, no
/// header and no body. A client that goes away is written as `end=gone`.
#[derive(Debug, Clone)]
pub struct RequestLogLayer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Option<LogWriter>,
    format: LogFormat,
    metrics: HttpMetrics,
    describe: fn(&Extensions) -> LogSubject,
}

impl RequestLogLayer {
    /// Counts into `metrics`, and writes to `writer` if there is one.
    #[must_use]
    pub fn new(
        writer: Option<LogWriter>,
        format: LogFormat,
        metrics: HttpMetrics,
        describe: fn(&Extensions) -> LogSubject,
    ) -> Self {
        Self(Arc::new(Shared { writer, format, metrics, describe }))
    }
}

impl<S> Layer<S> for RequestLogLayer {
    type Service = RequestLog<S>;

    fn layer(&self, inner: S) -> RequestLog<S> {
        RequestLog { inner, shared: Arc::clone(&self.0) }
    }
}

/// Counts and logs; see [`RequestLogLayer`].
#[derive(Debug, Clone)]
pub struct RequestLog<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// One request from its head to the end of its answer. Dropping it writes the line.
#[derive(Debug)]
struct Record {
    shared: Arc<Shared>,
    subject: LogSubject,
    began: Instant,
    at: SystemTime,
    method: Method,
    uri: Uri,
    bytes_in: BytesIn,
    status: Option<StatusCode>,
    note: Option<CallNote>,
    caller: Option<CallerNote>,
    bytes_out: u64,
    end: End,
}

#[derive(Debug)]
enum BytesIn {
    Announced(u64),
    Counted(Arc<AtomicU64>),
}

impl Drop for Record {
    fn drop(&mut self) {
        let served = self.began.elapsed();
        let bytes_in = match &self.bytes_in {
            BytesIn::Announced(bytes) => *bytes,
            BytesIn::Counted(bytes) => bytes.load(Ordering::Acquire),
        };
        self.shared.metrics.ended(self.note.as_ref(), self.status, served);
        self.shared.metrics.moved(bytes_in, self.bytes_out);
        let Some(writer) = &self.shared.writer else { return };
        let line = RequestLine {
            at: self.at,
            request_id: self.subject.request_id.as_ref(),
            client: self.subject.client,
            method: &self.method,
            path: self.uri.path(),
            status: self.status,
            note: self.note.as_ref(),
            caller: self.caller.as_ref().map(|caller| &*caller.0),
            bytes_in,
            bytes_out: self.bytes_out,
            served,
            end: self.end,
        };
        writer.line(|out| line.write(self.shared.format, out));
    }
}

impl<S, B, R> Service<Request<B>> for RequestLog<S>
where
    S: Service<Request<Counted<B>>, Response = Response<R>>,
    B: HttpBody<Data = Bytes>,
    R: HttpBody<Data = Bytes>,
{
    type Response = Response<LoggedBody<R>>;
    type Error = S::Error;
    type Future = LogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.shared.metrics.began();
        let (bytes_in, counter) = match request.body().size_hint().exact() {
            Some(bytes) => (BytesIn::Announced(bytes), None),
            None => {
                let counter = Arc::new(AtomicU64::new(0));
                (BytesIn::Counted(Arc::clone(&counter)), Some(counter))
            }
        };
        let record = Record {
            subject: (self.shared.describe)(request.extensions()),
            shared: Arc::clone(&self.shared),
            began: Instant::now(),
            at: SystemTime::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            bytes_in,
            status: None,
            note: None,
            caller: None,
            bytes_out: 0,
            end: End::Gone,
        };
        let request = request.map(|body| Counted { body, counter });
        LogFuture { inner: self.inner.call(request), record: Some(record) }
    }
}

pin_project! {
    /// The answer on its way.
    pub struct LogFuture<F> {
        #[pin]
        inner: F,
        record: Option<Record>,
    }
}

impl<F, R, E> Future for LogFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: HttpBody<Data = Bytes>,
{
    type Output = Result<Response<LoggedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        let mut record = this.record.take();
        if let Some(record) = &mut record {
            record.status = Some(response.status());
            record.note = response.extensions_mut().remove::<CallNote>();
            record.caller = response.extensions_mut().remove::<CallerNote>();
            if response.body().is_end_stream() {
                record.end = End::Whole;
            }
        }
        Poll::Ready(Ok(response.map(|body| LoggedBody { body, record })))
    }
}

pin_project! {
    /// A request body whose bytes are counted where its length was not announced.
    #[derive(Debug)]
    pub struct Counted<B> {
        #[pin]
        body: B,
        counter: Option<Arc<AtomicU64>>,
    }
}

impl<B: HttpBody<Data = Bytes>> Counted<B> {
    /// The body itself, if nothing has to be counted.
    ///
    /// # Errors
    /// The counting body, if something has.
    pub fn into_inner(self) -> Result<B, Self> {
        match self.counter {
            None => Ok(self.body),
            Some(_) => Err(self),
        }
    }
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        if let (Some(Ok(frame)), Some(counter)) = (&frame, this.counter) {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            counter.fetch_add(bytes, Ordering::AcqRel);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// A response body that writes the line of its request when it ends or is dropped.
    #[derive(Debug)]
    pub struct LoggedBody<R> {
        #[pin]
        body: R,
        record: Option<Record>,
    }
}

impl<R: HttpBody<Data = Bytes>> HttpBody for LoggedBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        if let Some(record) = this.record {
            match &frame {
                Some(Ok(frame)) => {
                    record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                    // hyper does not ask again after the last frame of a known length.
                    if this.body.is_end_stream() {
                        record.end = End::Whole;
                    }
                }
                Some(Err(_)) => record.end = End::Broken,
                None => record.end = End::Whole,
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
