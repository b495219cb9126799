//! The inputs of one socket that are in hand: one on its way to the device and through it, one behind it being encoded. Only
//! sockets that are busy have this.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::draw::{Drawing, Drawn, Failed, Progress, draw};
use super::finish::{Finished, finish};
use super::seat::{Asked, Reply, Seat};
use super::similar::Look;
use crate::host::waiting::Standing;

/// A boxed future: what is not under way keeps no room.
type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is in hand.
#[derive(Default)]
pub(super) struct Work {
    drawing: Option<(Pending<Result<Drawing, Failed>>, Progress)>,
    /// Drawn while the one before is still being encoded: results keep the order of their inputs.
    drawn: Option<Box<Drawn>>,
    finishing: Option<Pending<Finished>>,
}

/// What came of an input.
pub(super) enum Came {
    /// Its pictures were drawn and are being encoded; this is how it looked.
    Drawn(Option<Look>),
    /// Its result.
    Finished(Box<Finished>),
    /// Nothing: it looks like the one before.
    Similar(Reply),
    /// Nothing yet: its caller waits for a place at the engine.
    Waits(Standing),
    /// Nothing, for this reason.
    Failed(Box<Failed>),
}

impl Work {
    /// Whether the next input may begin.
    pub(super) const fn may_begin(&self) -> bool {
        self.drawing.is_none() && self.drawn.is_none()
    }

    /// Whether nothing is in hand.
    pub(super) const fn is_done(&self) -> bool {
        self.may_begin() && self.finishing.is_none()
    }

    /// Begins an input. Only after [`Work::may_begin`].
    pub(super) fn begin(&mut self, seat: &Arc<Seat>, asked: Asked, last: Option<Look>) {
        let progress = Progress::default();
        let drawing = Box::pin(draw(Arc::clone(seat), asked, last, progress.clone()));
        self.drawing = Some((drawing, progress));
    }

    /// Drops the input that is on its way if all it does is wait for room in the engine's queue.
    pub(super) fn give_way(&mut self) -> bool {
        let waits = self.drawing.as_ref().is_some_and(|(_, progress)| progress.waits_for_room());
        if waits {
            self.drawing = None;
        }
        waits
    }

    /// The next thing that came.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, seat: &Arc<Seat>) -> Poll<Came> {
        if let Some(finishing) = &mut self.finishing
            && let Poll::Ready(finished) = finishing.as_mut().poll(cx)
        {
            self.finishing = None;
            return Poll::Ready(Came::Finished(Box::new(finished)));
        }
        if self.finishing.is_none()
            && let Some(mut drawn) = self.drawn.take()
        {
            let look = drawn.look.take();
            self.finishing = Some(Box::pin(finish(Arc::clone(seat), drawn)));
            return Poll::Ready(Came::Drawn(look));
        }
        let Some((drawing, progress)) = &mut self.drawing else { return Poll::Pending };
        let Poll::Ready(came) = drawing.as_mut().poll(cx) else {
            return progress.take_news().map_or(Poll::Pending, |standing| Poll::Ready(Came::Waits(standing)));
        };
        self.drawing = None;
        match came {
            Ok(Drawing::Drawn(drawn)) => {
                self.drawn = Some(drawn);
                self.poll(cx, seat)
            }
            Ok(Drawing::Similar(reply)) => Poll::Ready(Came::Similar(reply)),
            Err(failed) => Poll::Ready(Came::Failed(Box::new(failed))),
        }
    }
}
