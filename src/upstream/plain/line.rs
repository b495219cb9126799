//! One connection: a request out, its answer in, both at once.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::answer::{self, Head, Length};
use super::piece::Piece;
use super::request;
use crate::upstream::Alarm;
use crate::upstream::error::UpstreamError;
use crate::upstream::pool::HTTP1_BUFFER_BYTES;
use crate::upstream::sent_body::SentBody;
use crate::wire::BodyError;

/// One connection, not polled by anybody but the call that has it.
pub(super) struct Line {
    io: TcpStream,
    pub(super) alarm: Alarm,
    sending: Sending,
    /// A head that is not whole yet.
    head: Vec<u8>,
    /// What was read and not given out.
    unread: Bytes,
    body: Length,
    keep_alive: bool,
}

/// What is still to be written of a request.
#[derive(Default)]
struct Sending {
    /// The head, or what stands between two pieces of the body.
    frame: Vec<u8>,
    written: usize,
    data: Bytes,
    body: Option<(SentBody, SentAs)>,
}

/// How the end of a request body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentAs {
    /// By its length; so many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunks,
}

/// A body of another length than was announced.
#[derive(Debug, thiserror::Error)]
#[error("request body has another length than announced")]
struct OtherLength;

fn broken(cause: impl Into<BodyError>) -> UpstreamError {
    UpstreamError::Broken(cause.into())
}

impl Line {
    pub(super) fn new(io: TcpStream) -> Self {
        Self {
            io,
            alarm: Alarm::default(),
            sending: Sending::default(),
            head: Vec::new(),
            unread: Bytes::new(),
            body: Length::Bytes(0),
            keep_alive: true,
        }
    }

    /// Takes a request on a free line. Nothing is sent before the line is polled.
    pub(super) fn begin(&mut self, request: Request<SentBody>) {
        let (parts, body) = request.into_parts();
        self.sending.frame.clear();
        self.sending.written = 0;
        self.sending.body = request::write_head(&parts, &body, &mut self.sending.frame).map(|how| (body, how));
        // Until its head has come, an answer keeps the line from being free.
        self.body = Length::ToTheEnd;
    }

    /// Whether the last exchange is over, cleanly and wholly, and another may begin.
    pub(super) fn is_free(&self) -> bool {
        self.keep_alive && self.body.is_over() && self.unread.is_empty() && self.sending.is_done()
    }

    /// Whether the other side has nothing to say on a free line: it has not closed it either.
    pub(super) fn is_quiet(&mut self) -> bool {
        // Whoever sends the next request polls again, with a waker of its own.
        Piece::poll_read(&mut self.io, &mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends on, and waits for the head of the answer. Informational answers are passed over.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, UpstreamError>> {
        let sent = self.poll_send(cx);
        loop {
            let piece = match Piece::poll_read(&mut self.io, cx) {
                Poll::Ready(piece) => piece.map_err(broken)?,
                Poll::Pending => {
                    // An answer may come before a request that cannot be sent has failed, and says more.
                    if let Poll::Ready(Err(error)) = sent {
                        return Poll::Ready(Err(error));
                    }
                    return Poll::Pending;
                }
            };
            if piece.as_ref().is_empty() {
                return Poll::Ready(Err(broken(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))));
            }
            if let Some(head) = self.take_head(piece)? {
                self.body = head.body;
                self.keep_alive &= head.keep_alive;
                return Poll::Ready(Ok(head.answer));
            }
        }
    }

    /// Looks for a final head in what was read before and `piece`; what follows it is kept as unread.
    fn take_head(&mut self, piece: Piece) -> Result<Option<Head>, UpstreamError> {
        if self.head.is_empty() {
            let mut at = 0;
            while let Some(head) = answer::read(&piece.as_ref()[at..])? {
                at += head.len;
                if is_final(&head) {
                    self.unread = if at == piece.as_ref().len() { Bytes::new() } else { piece.into_bytes(at) };
                    return Ok(Some(head));
                }
            }
            self.head.extend_from_slice(&piece.as_ref()[at..]);
        } else {
            self.head.extend_from_slice(piece.as_ref());
            while let Some(head) = answer::read(&self.head)? {
                if is_final(&head) {
                    self.unread = Bytes::copy_from_slice(&self.head[head.len..]);
                    self.head = Vec::new();
                    return Ok(Some(head));
                }
                self.head.drain(..head.len);
            }
        }
        if self.head.len() > HTTP1_BUFFER_BYTES {
            return Err(broken("the head of the answer is too large"));
        }
        Ok(None)
    }

    /// What is left of the body, if all of it has come already.
    pub(super) fn take_rest(&mut self) -> Option<Bytes> {
        match self.body {
            Length::Bytes(left) if self.unread.len() as u64 >= left => {
                self.body = Length::Bytes(0);
                let left = usize::try_from(left).unwrap_or(usize::MAX).min(self.unread.len());
                Some(self.unread.split_to(left))
            }
            _ => None,
        }
    }

    /// How many bytes of the body are still to come, where that is known.
    pub(super) const fn left(&self) -> Option<u64> {
        match self.body {
            Length::Bytes(left) => Some(left),
            Length::Chunks(_) | Length::ToTheEnd => None,
        }
    }

    /// Whether the whole answer has been given out.
    pub(super) fn is_over(&self) -> bool {
        self.body.is_over()
    }

    /// Gives the next piece of the answer's body; `None` at its end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamError>>> {
        loop {
            if self.body.is_over() {
                return Poll::Ready(None);
            }
            if !self.unread.is_empty() {
                let data = match &mut self.body {
                    Length::Bytes(left) => {
                        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.unread.len());
                        *left -= here as u64;
                        Some(self.unread.split_to(here))
                    }
                    Length::Chunks(chunks) => chunks.take(&mut self.unread)?,
                    Length::ToTheEnd => Some(std::mem::take(&mut self.unread)),
                };
                match data {
                    Some(data) => return Poll::Ready(Some(Ok(data))),
                    None => continue,
                }
            }
            // The answer may be told while the request is still on its way; should that fail, the line is not used again.
            let _ = self.poll_send(cx);
            let piece = ready!(Piece::poll_read(&mut self.io, cx)).map_err(broken)?;
            if piece.as_ref().is_empty() {
                if self.body == Length::ToTheEnd {
                    self.body = Length::Bytes(0);
                    return Poll::Ready(None);
                }
                return Poll::Ready(Some(Err(broken(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))));
            }
            self.unread = piece.into_bytes(0);
        }
    }

    /// Sends what there is of the request; ready when all of it is gone.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        if self.sending.is_done() {
            return Poll::Ready(Ok(()));
        }
        let sent = self.sending.poll(&mut self.io, cx);
        if let Poll::Ready(Err(_)) = sent {
            // What was begun cannot be finished, and nothing else may follow it.
            self.sending = Sending::default();
            self.keep_alive = false;
        }
        sent
    }
}

fn is_final(head: &Head) -> bool {
    // Nobody asked to switch protocols: whoever reads the head refuses it.
    !head.answer.status().is_informational() || head.answer.status() == http::StatusCode::SWITCHING_PROTOCOLS
}

impl Sending {
    fn is_done(&self) -> bool {
        self.body.is_none() && self.data.is_empty() && self.written == self.frame.len()
    }

    fn poll(&mut self, io: &mut TcpStream, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        loop {
            // The first piece of a body is asked for before the head is written, so that both go out at once.
            let asked = if self.data.is_empty() { self.poll_body(cx)? } else { Poll::Ready(()) };
            if self.data.is_empty() && self.written == self.frame.len() {
                if self.body.is_none() {
                    return Poll::Ready(Ok(()));
                }
                ready!(asked);
                continue;
            }
            let slices = [IoSlice::new(&self.frame[self.written..]), IoSlice::new(&self.data)];
            let bytes = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices)).map_err(broken)?;
            if bytes == 0 {
                return Poll::Ready(Err(broken(std::io::Error::from(std::io::ErrorKind::WriteZero))));
            }
            let of_frame = bytes.min(self.frame.len() - self.written);
            self.written += of_frame;
            self.data.advance(bytes - of_frame);
            if self.data.is_empty() {
                // An empty slice would keep the whole of what it was cut from, for as long as the line waits.
                self.data = Bytes::new();
            }
        }
    }

    /// Asks the body for its next piece, or its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, UpstreamError> {
        let Some((body, how)) = &mut self.body else { return Ok(Poll::Ready(())) };
        let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(body), cx) else { return Ok(Poll::Pending) };
        if self.written == self.frame.len() {
            self.frame.clear();
            self.written = 0;
        }
        let Some(frame) = frame.transpose().map_err(broken)? else {
            match how {
                SentAs::Chunks => self.frame.extend_from_slice(b"0\r\n\r\n"),
                SentAs::Length(0) => {}
                SentAs::Length(_) => return Err(broken(OtherLength)),
            }
            self.body = None;
            return Ok(Poll::Ready(()));
        };
        // Trailers are nobody's business on the way to fal.
        let Ok(data) = frame.into_data() else { return Ok(Poll::Ready(())) };
        if data.is_empty() {
            return Ok(Poll::Ready(()));
        }
        match how {
            SentAs::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(|| broken(OtherLength))?;
                if *left == 0 {
                    self.body = None;
                }
                self.data = data;
            }
            SentAs::Chunks => {
                // The chunk and its end in one buffer: such bodies come in small pieces.
                use std::io::Write as _;
                let _ = write!(self.frame, "{:x}\r\n", data.len());
                self.frame.extend_from_slice(&data);
                self.frame.extend_from_slice(b"\r\n");
            }
        }
        Ok(Poll::Ready(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::wire::Body;

    #[tokio::test]
    async fn a_free_line_keeps_nothing_of_the_request_that_it_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let text: Arc<[u8]> = (*b"hello").into();
        let (body, _) = SentBody::new(Body::from(Bytes::from_owner(Arc::clone(&text))), Duration::from_secs(1));
        let mut line = Line::new(near);
        line.begin(Request::post("/").body(body).unwrap());
        let answering = async {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\nhello") {
                assert_ne!(far.read_buf(&mut request).await.unwrap(), 0);
            }
            far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        };
        let (answer, ()) = tokio::join!(std::future::poll_fn(|cx| line.poll_head(cx)), answering);
        assert_eq!(answer.unwrap().status(), 204);
        assert!(line.is_free());
        assert_eq!(Arc::strong_count(&text), 1);
    }
}
