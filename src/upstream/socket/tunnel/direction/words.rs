//! What a direction can be told from outside: words of the gate's own, where to stop, and another receiver.

use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::{Direction, Partial, Piece, Walked};
use crate::upstream::socket::metrics::Tally;
use crate::upstream::socket::tunnel::BufferPool;
use crate::upstream::socket::tunnel::meaning::{Stop, Treatment, Watch};

impl Direction {
    /// Says something to the receiver between two messages of the sender.
    pub(in crate::upstream::socket) fn say_between(&mut self, frames: &mut Vec<u8>) {
        self.between.append(frames);
    }

    /// Bytes that wait to be said between two messages.
    pub(in crate::upstream::socket) fn waiting_between(&self) -> usize {
        self.between.len()
    }

    /// Sends these frames after all that may go on. Nothing of the sender's may follow.
    pub(in crate::upstream::socket) fn say(&mut self, frames: &[u8]) {
        if let Some(piece) = self.piece.take_if(|piece| piece.sent < piece.ready) {
            self.out.extend_from_slice(&piece.bytes[piece.sent..piece.ready]);
        }
        self.out.extend_from_slice(frames);
    }

    /// Ends the direction at the next such place.
    pub(in crate::upstream::socket) fn stop_at(&mut self, stop: Stop) {
        self.stop = stop;
    }

    pub(in crate::upstream::socket) fn is_stopped(&self) -> bool {
        match self.stop {
            Stop::Never => false,
            Stop::AfterFrame => self.walker.is_between_frames(),
            Stop::AfterMessage => self.walker.is_between_messages(),
        }
    }

    /// Whether the receiver has had whole frames only.
    pub(in crate::upstream::socket) fn is_between_frames(&self) -> bool {
        self.walker.is_between_frames() || self.treatment != Treatment::Pass
    }

    /// Whether the receiver has had whole messages only, and so can be told something else.
    pub(in crate::upstream::socket) fn is_between_messages(&self) -> bool {
        self.walker.is_between_messages()
    }

    /// Whether the sender is in the middle of a message.
    pub(in crate::upstream::socket) fn is_within_message(&self) -> bool {
        self.walker.is_within_message()
    }

    /// Whether all that was put in the place of what came has been written.
    pub(in crate::upstream::socket) const fn has_written_all(&self) -> bool {
        self.out.is_empty()
    }

    /// The rest of a frame that passes goes no further.
    pub(in crate::upstream::socket) fn skip_frame(&mut self) {
        if !self.walker.is_between_frames() && self.treatment == Treatment::Pass {
            self.treatment = Treatment::Skip;
        }
    }

    /// When the receiver has taken nothing for `limit`.
    pub(in crate::upstream::socket) fn stalls_at(&self, limit: std::time::Duration) -> Option<Instant> {
        self.stalled_since.map(|since| since + limit)
    }

    /// When the sender, too fast for now, is read again.
    pub(in crate::upstream::socket) fn opens_at(&self, now: Instant) -> Option<Instant> {
        self.rates.as_ref().and_then(|rates| rates.closed_until(now))
    }

    pub(in crate::upstream::socket) const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes bytes that were read elsewhere, before all others.
    pub(in crate::upstream::socket) fn receive(&mut self, bytes: &[u8]) {
        self.piece = (!bytes.is_empty()).then(|| Piece::loose(bytes));
    }

    /// Drops what the last sender sent and nobody has seen. Its messages were whole.
    pub(in crate::upstream::socket) fn forget(&mut self) {
        (self.piece, self.partial) = (None, Partial::default());
    }

    /// Reads and drops until the sender closes, ends, or breaks the rules.
    pub(in crate::upstream::socket) fn discard<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        (watch, pool): (&mut impl Watch, &BufferPool),
    ) -> Poll<()> {
        self.rates = None;
        loop {
            while let Walked::Some = match self.walk(watch) {
                Ok(walked) => walked,
                Err(_) => return Poll::Ready(()),
            } {
                (self.out, self.out_at) = (Vec::new(), 0);
            }
            match ready!(self.poll_in(cx, reader, pool)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Goes on with another receiver: what the last one has not taken is dropped, and `first` is sent before all else.
    pub(in crate::upstream::socket) fn begin_again(&mut self, first: Vec<u8>) {
        if let Some(piece) = &mut self.piece {
            (piece.sent, piece.ready) = (piece.walked, piece.walked);
        }
        (self.out, self.out_at) = (first, 0);
        (self.stalled_since, self.unflushed, self.receiver_lost) = (None, false, false);
    }
}
