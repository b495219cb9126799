//! The one body type that every room passes on.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

/// Any error that ends a body early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request or response body: empty, in memory, straight from a connection, or any other stream.
///
/// It is a newtype and no alias, because async services that name a boxed body through an alias fail to prove `Send`.
/// Bodies stream: nothing here collects. Dropping a body that comes from a connection tells the sender to stop.
#[derive(Debug)]
pub struct Body(Repr);

#[derive(Debug)]
enum Repr {
    Memory(Option<Bytes>),
    Incoming(Incoming),
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// A body without a byte.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Repr::Memory(None))
    }

    /// Wraps any body. It costs one allocation; [`Body::from`] a [`Bytes`] or [`Incoming`] costs none.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Self(Repr::Boxed(body.map_err(Into::into).boxed_unsync()))
    }

    /// Whether all of it is here: nobody ever waits for such a body.
    #[must_use]
    pub const fn is_in_memory(&self) -> bool {
        matches!(self.0, Repr::Memory(_))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::Memory((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(Bytes::from(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::from(Bytes::from(text))
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::from(Bytes::from_static(text.as_bytes()))
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Self(Repr::Incoming(incoming))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Repr::Memory(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Repr::Incoming(incoming) => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
            Repr::Boxed(boxed) => Pin::new(boxed).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::Memory(bytes) => bytes.is_none(),
            Repr::Incoming(incoming) => incoming.is_end_stream(),
            Repr::Boxed(boxed) => boxed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Memory(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Repr::Incoming(incoming) => incoming.size_hint(),
            Repr::Boxed(boxed) => boxed.size_hint(),
        }
    }
}

impl From<http_body_util::Full<Bytes>> for Body {
    fn from(full: http_body_util::Full<Bytes>) -> Self {
        Self::new(full.map_err(|never: Infallible| -> BodyError { match never {} }))
    }
}

/// Why a body could not be collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// More bytes than the limit came, or were announced.
    #[error("body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// All the memory that bodies may fill together is taken.
    #[error("bodies that are held fill their memory")]
    NoRoom,
    /// The sender stopped or broke the framing.
    #[error("body ended early")]
    Broken(#[source] BodyError),
}

/// Collects `body` into memory, at most `limit` bytes of it.
///
/// An announced length over the limit is refused before a byte is read. Trailers are dropped.
///
/// # Errors
/// [`CollectError::TooLarge`] past the limit, [`CollectError::Broken`] when the sender fails; never [`CollectError::NoRoom`].
pub async fn collect(body: Body, limit: u64) -> Result<Bytes, CollectError> {
    collect_while(body, limit, |_| true).await
}

/// Collects as [`collect`] does, as long as there is room for each piece.
pub(super) async fn collect_while(
    mut body: Body,
    limit: u64,
    mut has_room: impl FnMut(u64) -> bool,
) -> Result<Bytes, CollectError> {
    let mut judge = |before: usize, piece: &Bytes| {
        if (before + piece.len()) as u64 > limit {
            return Err(CollectError::TooLarge { limit });
        }
        if has_room(piece.len() as u64) { Ok(()) } else { Err(CollectError::NoRoom) }
    };
    if body.size_hint().lower() > limit {
        return Err(CollectError::TooLarge { limit });
    }
    let Some(first) = next_data(&mut body).await? else { return Ok(Bytes::new()) };
    judge(0, &first)?;
    let Some(second) = next_data(&mut body).await? else { return Ok(first) };
    let mut all = Vec::with_capacity(first.len() + second.len());
    all.extend_from_slice(&first);
    drop(first);
    let mut next = Some(second);
    while let Some(data) = next {
        judge(all.len(), &data)?;
        all.extend_from_slice(&data);
        next = next_data(&mut body).await?;
    }
    Ok(all.into())
}

async fn next_data(body: &mut Body) -> Result<Option<Bytes>, CollectError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(CollectError::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let refused = collect(Body::from("twelve bytes"), 11).await;
        assert!(matches!(refused, Err(CollectError::TooLarge { limit: 11 })));
        assert_eq!(collect(Body::from("twelve bytes"), 12).await.unwrap(), "twelve bytes");
    }

    #[test]
    fn an_empty_body_ends_at_once() {
        assert!(Body::empty().is_end_stream());
        assert!(Body::from(Bytes::new()).is_end_stream());
    }
}
