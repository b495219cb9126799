//! Bytes of a request's body: charged as they pass where nobody said how many there are, put right where somebody did.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::cost::{Cost, Dimension};
use super::limits::Limits;
use super::refusal::Refusal;
use super::subject::Subject;
use crate::wire::{Body, BodyError};

/// What is charged for a body that does not say how long it is, before any of it has come: enough for a share that is spent
/// to refuse the call at once.
const UNTOLD: u64 = 1;

/// The bytes of a body, charged when its call is.
pub(super) fn announced(body: &Body) -> u64 {
    body.size_hint().exact().unwrap_or(UNTOLD)
}

/// What is known of a body that passes. The call and its body share it.
#[derive(Debug, Default)]
pub(super) struct Passed {
    bytes: AtomicU64,
    refusal: OnceLock<Refusal>,
}

impl Passed {
    /// Why the body was cut, if it was.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refusal.get()
    }

    /// What a call that was charged `estimate` really sent, once nobody holds its body any more.
    pub(super) fn real(self: &Arc<Self>, estimate: Cost) -> Cost {
        let is_over = Arc::strong_count(self) == 1;
        let bytes = self.bytes.load(Ordering::Acquire);
        if is_over && bytes < estimate.cells(Dimension::Bytes) {
            estimate.with_cells(Dimension::Bytes, bytes)
        } else {
            estimate
        }
    }
}

/// Counts `body` as it passes and, where it did not say how long it is, charges `subject` for it piece by piece.
///
/// A body that is in memory is left as it is: it has come. `None` where there is nothing to count.
pub(super) fn passing(body: &mut Body, limits: &Limits, subject: impl FnOnce() -> Subject) -> Option<Arc<Passed>> {
    if body.is_in_memory() || body.is_end_stream() || !limits.count(Dimension::Bytes) {
        return None;
    }
    let passed = Arc::new(Passed::default());
    let payer = body.size_hint().exact().is_none().then(|| Payer { limits: limits.clone(), subject: subject() });
    let inner = std::mem::take(body);
    *body = Body::new(Passing { inner, payer, passed: Arc::clone(&passed) });
    Some(passed)
}

impl Limits {
    /// Whether any limit counts this.
    pub(super) fn count(&self, of: Dimension) -> bool {
        let rows = self.inner().rows.load();
        rows.rules.iter().any(|rule| rule.settings.of == of) || rows.budgets.iter().any(|row| row.settings.of == of)
    }
}

/// Who pays for a body of unknown length.
#[derive(Debug)]
struct Payer {
    limits: Limits,
    subject: Subject,
}

impl Payer {
    /// Charges one more piece of a body of which `before` bytes have passed.
    fn charge(&self, before: u64, piece: u64) -> Result<(), Refusal> {
        // The first byte was charged with the call.
        let due = if before == 0 { piece.saturating_sub(UNTOLD) } else { piece };
        let bytes = |bytes| Cost::ZERO.with_cells(Dimension::Bytes, bytes);
        if self.limits.charge(&self.subject, bytes(due), None).is_ok() {
            return Ok(());
        }
        // A caller who tries again sends all of it again: when that much may pass is what is told.
        let mut receipt = self.limits.charge(&self.subject, bytes(before.saturating_add(piece)), None)?;
        receipt.settle(bytes(due));
        Ok(())
    }
}

pin_project! {
    /// A body whose bytes are counted.
    struct Passing {
        #[pin]
        inner: Body,
        payer: Option<Payer>,
        passed: Arc<Passed>,
    }
}

/// A body that is more than its caller may send.
#[derive(Debug, thiserror::Error)]
#[error("the body is more than its caller may send")]
struct OverShare;

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.project();
        if this.passed.refusal().is_some() {
            return Poll::Ready(None);
        }
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let piece = data.len() as u64;
            let before = this.passed.bytes.fetch_add(piece, Ordering::AcqRel);
            if let Some(Err(refusal)) = this.payer.as_ref().map(|payer| payer.charge(before, piece)) {
                let _ = this.passed.refusal.set(refusal);
                return Poll::Ready(Some(Err(OverShare.into())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
