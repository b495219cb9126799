//! The limits over one realtime socket: its place, and what its frames cost.

use std::sync::Arc;

use super::layer::real_cost;
use super::limits::Limits;
use super::price::Prices;
use super::receipt::Receipt;
use super::refusal::Refusal;
use super::subject::Subject;
use crate::telemetry::WorkNote;

/// The limits over one realtime socket. [`LimitLayer`](super::LimitLayer) puts it into the request that opens the socket;
/// whoever serves the socket keeps it until the end, which gives the socket's place back.
#[derive(Debug, Clone)]
pub struct SocketLimits(Arc<Open>);

#[derive(Debug)]
struct Open {
    limits: Limits,
    prices: Arc<Prices>,
    subject: Subject,
    /// Held for its places.
    _opened: Receipt,
}

/// What a message was charged.
#[derive(Debug)]
pub struct FrameReceipt(Receipt);

impl SocketLimits {
    pub(super) fn new(limits: Limits, prices: Arc<Prices>, subject: Subject, opened: Receipt) -> Self {
        Self(Arc::new(Open { limits, prices, subject, _opened: opened }))
    }

    /// Charges a message of `bytes` before anything is done for it.
    ///
    /// # Errors
    /// [`Refusal`], with the time to wait. The socket stays.
    pub fn frame(&self, bytes: u64) -> Result<FrameReceipt, Refusal> {
        let Open { limits, prices, subject, .. } = &*self.0;
        let cost = prices.frame(subject.endpoint.as_ref(), bytes);
        limits.charge(subject, cost, None).map(FrameReceipt)
    }

    /// Who is at the other end.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }
}

impl FrameReceipt {
    /// The message made these pictures.
    pub fn worked(mut self, work: &WorkNote) {
        let real = real_cost(self.0.cost(), work);
        self.0.settle(real);
    }

    /// Nothing was made of the message: it was refused, superseded, or failed.
    pub fn idled(mut self) {
        self.0.settle_without_work();
    }
}
