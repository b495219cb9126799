//! Inputs that wait for their turn: the newest few, and never more.

use std::collections::VecDeque;
use std::num::NonZeroU8;

/// Waiting inputs of one socket. A new one pushes the oldest out when all places are taken, so that the newest is always
/// rendered and a fast pen never builds a backlog.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    waiting: VecDeque<T>,
    places: NonZeroU8,
}

impl<T> Mailbox<T> {
    /// An empty mailbox. It costs no memory until something waits.
    pub(super) const fn new(places: NonZeroU8) -> Self {
        Self { waiting: VecDeque::new(), places }
    }

    /// Puts an input behind the others; gives back the one that it supersedes.
    pub(super) fn put(&mut self, input: T) -> Option<T> {
        let superseded =
            if self.waiting.len() >= usize::from(self.places.get()) { self.waiting.pop_front() } else { None };
        self.waiting.push_back(input);
        superseded
    }

    /// Whether the next input pushes out one that came before it, here or on its way to the device.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() + 1 >= usize::from(self.places.get())
    }

    /// Takes the oldest.
    pub(super) fn take(&mut self) -> Option<T> {
        let taken = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        taken
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mailbox(places: u8) -> Mailbox<u32> {
        Mailbox::new(NonZeroU8::new(places).unwrap())
    }

    #[test]
    fn one_place_holds_the_newest() {
        let mut mailbox = mailbox(1);
        assert_eq!((mailbox.put(1), mailbox.put(2), mailbox.put(3)), (None, Some(1), Some(2)));
        assert_eq!((mailbox.take(), mailbox.take()), (Some(3), None));
    }

    #[test]
    fn more_places_are_served_in_order_and_drop_the_oldest() {
        let mut mailbox = mailbox(3);
        let dropped: Vec<u32> = (0..5).filter_map(|input| mailbox.put(input)).collect();
        assert_eq!(dropped, [0, 1]);
        assert_eq!(std::iter::from_fn(|| mailbox.take()).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(mailbox.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_comes_the_newest_is_never_lost(places in 1_u8..=60, puts in prop::collection::vec(0_usize..4, 1..80)) {
            let mut mailbox = mailbox(places);
            let (mut next, mut last_taken, mut dropped, mut taken) = (0, None, 0, 0);
            for takes in puts {
                dropped += usize::from(mailbox.put(next).is_some());
                next += 1;
                for input in std::iter::from_fn(|| mailbox.take()).take(takes) {
                    prop_assert!(last_taken.is_none_or(|last| last < input), "in order");
                    last_taken = Some(input);
                    taken += 1;
                }
                prop_assert!(mailbox.waiting.len() <= usize::from(places));
            }
            let rest: Vec<u32> = std::iter::from_fn(|| mailbox.take()).collect();
            prop_assert_eq!(rest.last().copied().or(last_taken), Some(next - 1));
            prop_assert_eq!(dropped + taken + rest.len(), next as usize);
        }
    }
}
