//! An answer on its way out: head and first piece in one write, then piece by piece as they come.

use std::cell::Cell;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::response::Parts;
use http_body::Body as HttpBody;
use tokio::io::AsyncWrite;

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SentAs {
    /// By its length; so many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunks,
}

/// What is still to be written of an answer.
pub(super) struct Sending<'a> {
    how: SentAs,
    /// The head, or the size of a chunk.
    frame: &'a mut Vec<u8>,
    written: usize,
    data: Bytes,
    /// What stands behind `data`.
    tail: &'static [u8],
    whole: bool,
    flushed: bool,
    is_last: bool,
}

/// A body that failed, or had another length than it said. The client must not take the answer for whole.
#[derive(Debug)]
pub(super) struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl<'a> Sending<'a> {
    /// Writes the head into `out`. With `is_last` it says that the connection ends.
    pub(super) fn begin(parts: &Parts, body: &impl HttpBody, is_last: bool, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        let says_close = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
        let is_last = is_last || parts.headers.get_all(CONNECTION).iter().any(says_close);
        write_status(parts.status, out);
        let mut has_date = false;
        for (name, value) in &parts.headers {
            if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING || *name == CONNECTION {
                continue;
            }
            has_date |= *name == DATE;
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let bodiless = parts.status.is_informational()
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let announced = || parts.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let how = match body.size_hint().exact().or_else(announced) {
            _ if bodiless => SentAs::Length(0),
            Some(bytes) => {
                let mut number = itoa::Buffer::new();
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(number.format(bytes).as_bytes());
                out.extend_from_slice(b"\r\n");
                SentAs::Length(bytes)
            }
            None => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                SentAs::Chunks
            }
        };
        if !has_date {
            write_date(out);
        }
        out.extend_from_slice(if is_last { b"connection: close\r\n\r\n" } else { b"\r\n" });
        let whole = how == SentAs::Length(0);
        Self { how, frame: out, written: 0, data: Bytes::new(), tail: b"", whole, flushed: true, is_last }
    }

    /// Whether the connection ends after this answer.
    pub(super) const fn is_last(&self) -> bool {
        self.is_last
    }

    /// Sends on; ready when all of the answer is gone.
    pub(super) fn poll<T, B>(
        &mut self,
        io: &mut T,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>>
    where
        T: AsyncWrite + Unpin,
        B: HttpBody<Data = Bytes>,
    {
        loop {
            // The first piece is asked for before the head is written, so that both go out at once.
            let asked = if self.whole || self.left() > self.frame.len() - self.written {
                Poll::Ready(())
            } else {
                self.poll_body(body.as_mut(), cx)?
            };
            if self.left() > 0 {
                let slices =
                    [IoSlice::new(&self.frame[self.written..]), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                let bytes = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?;
                if bytes == 0 {
                    return Poll::Ready(Err(Broken));
                }
                self.advance(bytes);
                self.flushed = false;
                continue;
            }
            if !self.flushed {
                ready!(Pin::new(&mut *io).poll_flush(cx))?;
                self.flushed = true;
            }
            if self.whole {
                return Poll::Ready(Ok(()));
            }
            ready!(asked);
        }
    }

    /// Bytes that wait to be written.
    fn left(&self) -> usize {
        self.frame.len() - self.written + self.data.len() + self.tail.len()
    }

    fn advance(&mut self, bytes: usize) {
        let of_frame = bytes.min(self.frame.len() - self.written);
        self.written += of_frame;
        let of_data = (bytes - of_frame).min(self.data.len());
        self.data.advance(of_data);
        if self.data.is_empty() {
            // What it was read into may be read into again: an empty slice would keep it.
            self.data = Bytes::new();
        }
        self.tail = &self.tail[bytes - of_frame - of_data..];
    }

    /// Asks for the next piece, or the end.
    fn poll_body<B>(&mut self, mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Result<Poll<()>, Broken>
    where
        B: HttpBody<Data = Bytes>,
    {
        let Poll::Ready(frame) = body.as_mut().poll_frame(cx) else { return Ok(Poll::Pending) };
        if self.written == self.frame.len() {
            self.frame.clear();
            self.written = 0;
        }
        let Some(frame) = frame.transpose().map_err(|_| Broken)? else {
            match self.how {
                SentAs::Chunks => self.tail = b"0\r\n\r\n",
                SentAs::Length(0) => {}
                SentAs::Length(_) => return Err(Broken),
            }
            self.whole = true;
            return Ok(Poll::Ready(()));
        };
        // Trailers are not passed on: nobody asked for them.
        let data = frame.into_data().unwrap_or_default();
        if data.is_empty() {
            return Ok(Poll::Ready(()));
        }
        match &mut self.how {
            SentAs::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Broken)?;
                self.whole = *left == 0;
            }
            SentAs::Chunks => {
                self.whole = body.is_end_stream();
                self.tail = if self.whole { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                // Writing to a vector never fails.
                let _ = write!(self.frame, "{:x}\r\n", data.len());
            }
        }
        self.data = data;
        Ok(Poll::Ready(()))
    }
}

fn write_status(status: StatusCode, out: &mut Vec<u8>) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    let reason = status.canonical_reason().unwrap_or("Unknown");
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

const DATE_BYTES: usize = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n".len();

thread_local! {
    /// The second that was written last, and its field.
    static SECOND: Cell<(u64, [u8; DATE_BYTES])> = const { Cell::new((u64::MAX, [0; DATE_BYTES])) };
}

fn write_date(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut known, mut text) = SECOND.get();
    if known != second {
        known = second;
        let mut space = text.as_mut_slice();
        // As long as the text, whatever the time.
        let _ = write!(space, "date: {}\r\n", httpdate::HttpDate::from(now));
        SECOND.set((known, text));
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::Response;
    use http_body::Frame;

    use super::*;
    use crate::wire::{Body, BodyError};

    /// Takes so many bytes at a time.
    struct Slow(usize, Vec<u8>);

    impl AsyncWrite for Slow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn stream(pieces: &[&'static str]) -> Body {
        let frames: VecDeque<_> =
            pieces.iter().map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
        Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
    }

    async fn sent(status: StatusCode, body: Body, at_once: usize) -> Result<String, Broken> {
        let mut answer = Response::builder().status(status).header("a", "b").header("content-length", "5");
        if at_once > 5 {
            answer = answer.header("date", "then");
        }
        let (mut parts, ()) = answer.body(()).unwrap().into_parts();
        if body.size_hint().exact().is_none() {
            parts.headers.remove(CONTENT_LENGTH);
        }
        let (mut out, mut io, mut body) = (Vec::new(), Slow(at_once, Vec::new()), std::pin::pin!(body));
        let mut sending = Sending::begin(&parts, &*body, false, &mut out);
        std::future::poll_fn(|cx| sending.poll(&mut io, body.as_mut(), cx)).await?;
        Ok(String::from_utf8(io.1).unwrap())
    }

    #[tokio::test]
    async fn an_answer_is_the_same_however_it_is_taken() {
        for at_once in 6..60 {
            let text = sent(StatusCode::OK, Body::from("hello"), at_once).await.unwrap();
            assert_eq!(text, "HTTP/1.1 200 OK\r\na: b\r\ndate: then\r\ncontent-length: 5\r\n\r\nhello");
            let text = sent(StatusCode::IM_A_TEAPOT, stream(&["hello", "", "you"]), at_once).await.unwrap();
            let head = "HTTP/1.1 418 I'm a teapot\r\na: b\r\ndate: then\r\ntransfer-encoding: chunked\r\n\r\n";
            assert_eq!(text, format!("{head}5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_body_says_nothing_of_one() {
        let text = sent(StatusCode::NO_CONTENT, Body::empty(), 100).await.unwrap();
        assert_eq!(text, "HTTP/1.1 204 No Content\r\na: b\r\ndate: then\r\n\r\n");
        let text = sent(StatusCode::OK, Body::empty(), 100).await.unwrap();
        assert!(text.ends_with("content-length: 0\r\n\r\n"), "{text}");
    }

    #[tokio::test]
    async fn a_piece_is_let_go_once_it_is_written() {
        let piece: std::sync::Arc<[u8]> = (*b"hello").into();
        let mut body = std::pin::pin!(Body::from(Bytes::from_owner(std::sync::Arc::clone(&piece))));
        let (mut out, mut io) = (Vec::new(), Slow(1000, Vec::new()));
        let (parts, ()) = Response::new(()).into_parts();
        let mut sending = Sending::begin(&parts, &*body, false, &mut out);
        std::future::poll_fn(|cx| sending.poll(&mut io, body.as_mut(), cx)).await.unwrap();
        assert_eq!(std::sync::Arc::strong_count(&piece), 1);
        assert!(!sending.is_last() && io.1.ends_with(b"hello"));
    }

    #[tokio::test]
    async fn an_answer_has_a_date() {
        let text = sent(StatusCode::OK, Body::empty(), 3).await.unwrap();
        let date = text.split("date: ").nth(1).unwrap().split("\r\n").next().unwrap();
        assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    }
}
