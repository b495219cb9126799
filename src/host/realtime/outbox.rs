//! What waits to be written to a socket: one result, and a few short notes. A reader that is slow gets the newest result and
//! never a backlog.

use std::collections::VecDeque;

/// Notes that may wait. Whoever does not read them has no use for more.
const MOST_NOTES: usize = 8;

/// Messages that wait for the writer.
#[derive(Debug)]
pub(super) struct Outbox<M> {
    result: Option<M>,
    notes: VecDeque<M>,
}

impl<M> Outbox<M> {
    /// An empty outbox. It costs no memory until something waits.
    pub(super) const fn new() -> Self {
        Self { result: None, notes: VecDeque::new() }
    }

    /// Puts a result; gives back the stale one that nobody took.
    pub(super) const fn put_result(&mut self, result: M) -> Option<M> {
        self.result.replace(result)
    }

    /// Puts a note behind the others; gives back the oldest where too many wait.
    pub(super) fn put_note(&mut self, note: M) -> Option<M> {
        let oldest = if self.notes.len() >= MOST_NOTES { self.notes.pop_front() } else { None };
        self.notes.push_back(note);
        oldest
    }

    /// Takes what is to be written next.
    pub(super) fn take(&mut self) -> Option<M> {
        let next = self.notes.pop_front().or_else(|| self.result.take());
        if self.notes.is_empty() {
            self.notes = VecDeque::new();
        }
        next
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.result.is_none() && self.notes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_result_gives_way_to_the_newer_one() {
        let mut outbox = Outbox::new();
        assert_eq!((outbox.put_result(1), outbox.put_result(2)), (None, Some(1)));
        assert_eq!((outbox.take(), outbox.take()), (Some(2), None));
    }

    #[test]
    fn notes_are_few_and_go_first() {
        let mut outbox = Outbox::new();
        outbox.put_result(100);
        let pushed_out = (0..20).filter_map(|note| outbox.put_note(note)).count();
        assert_eq!(pushed_out, 20 - MOST_NOTES);
        assert_eq!(outbox.take(), Some(12), "the newest are told");
        let rest: Vec<i32> = std::iter::from_fn(|| outbox.take()).collect();
        assert_eq!((rest.len(), rest.last(), outbox.is_empty()), (MOST_NOTES, Some(&100), true));
    }
}
