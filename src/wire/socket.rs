//! What the door tells whoever answers a socket.

use std::any::Any;
use std::num::NonZeroU8;
use std::sync::Arc;

/// Most inputs that a page may let wait, as fal's clients check it.
const MOST_WAITING: u8 = 60;

/// What a page wishes of its socket, in the query of the URL. Keys that nobody knows are ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SocketWishes {
    /// `max_buffering`: inputs that may wait before the oldest is dropped, 1 to 60. Other numbers are brought into range.
    pub waiting: Option<NonZeroU8>,
    /// `falgate=direct`: bare pictures in binary frames, both ways.
    pub direct: bool,
    /// `falgate_similar`: a picture that differs from the last one by less is not rendered again, `0..=1`.
    pub similar: Option<f32>,
}

impl SocketWishes {
    /// Reads the wishes out of a query. What cannot be read is no wish.
    #[must_use]
    pub fn read(query: &str) -> Self {
        let mut wishes = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "max_buffering" => {
                    let number = value.parse::<i64>().ok();
                    let number = number.and_then(|number| u8::try_from(number.clamp(1, MOST_WAITING.into())).ok());
                    wishes.waiting = number.and_then(NonZeroU8::new);
                }
                "falgate" => wishes.direct = value == "direct",
                "falgate_similar" => {
                    wishes.similar = value.parse().ok().filter(|part: &f32| (0.0..=1.0).contains(part));
                }
                _ => {}
            }
        }
        wishes
    }
}

/// What is held as long as a socket is open, for example its place in a count. Whoever answers the socket keeps it until
/// the socket has ended.
#[derive(Clone)]
pub struct SocketPass(Arc<dyn Any + Send + Sync>);

impl SocketPass {
    /// Holds `place` until the last clone is dropped.
    pub fn new(place: impl Any + Send + Sync) -> Self {
        Self(Arc::new(place))
    }
}

impl std::fmt::Debug for SocketPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SocketPass({} holders)", Arc::strong_count(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_brought_into_range() {
        let waiting = |query: &str| SocketWishes::read(query).waiting.map(NonZeroU8::get);
        assert_eq!(waiting("max_buffering=7"), Some(7));
        assert_eq!(waiting("a=b&max_buffering=1&x"), Some(1));
        for (query, number) in [("max_buffering=0", 1), ("max_buffering=61", 60), ("max_buffering=-3", 1)] {
            assert_eq!(waiting(query), Some(number), "{query}");
        }
        for query in ["", "max_buffering", "max_buffering=", "max_buffering=two", "MAX_BUFFERING=3"] {
            assert_eq!(waiting(query), None, "{query}");
        }
        let wishes = SocketWishes::read("falgate=direct&falgate_similar=0.02&unknown=1");
        assert_eq!((wishes.direct, wishes.similar), (true, Some(0.02)));
        assert_eq!(SocketWishes::read("falgate=other&falgate_similar=7"), SocketWishes::default());
        assert_eq!(SocketWishes::read("falgate_similar=NaN").similar, None);
    }
}
