//! What one socket's work is made of: the host behind it, and what is known of its page.

use std::sync::Arc;

use tokio::time::Instant;

use super::frame_budget::{FrameAsk, FrameCharge, FrameReceipt, OverBudget};
use super::metrics::SocketMetrics;
use super::settings::RealtimeSettings;
use crate::engine::Lane;
use crate::guard::Subject;
use crate::host::Host;
use crate::wire::message::{Dialect, PictureForm};
use crate::wire::{LcmInput, PublicOrigin, Reserved, SocketWishes};

/// One socket's place at the host. Work in hand shares it.
pub(super) struct Seat {
    pub(super) host: Arc<Host>,
    pub(super) origin: Option<PublicOrigin>,
    pub(super) wishes: SocketWishes,
    pub(super) subject: Subject,
    /// A socket is one pen, and has its share of the device.
    pub(super) lane: Lane,
}

impl Seat {
    pub(super) fn settings(&self) -> &RealtimeSettings {
        &self.host.settings.realtime
    }

    pub(super) fn metrics(&self) -> &SocketMetrics {
        &self.host.socket_metrics
    }

    /// Takes what an input costs from its caller's budget, where somebody keeps one.
    pub(super) fn charge(&self, input: &LcmInput) -> Option<FrameCharge> {
        let budget = self.host.frame_budget.as_ref()?;
        Some(budget.charge(&FrameAsk { subject: &self.subject, pictures: input.num_images }))
    }

    /// Takes the bytes of an input from its caller's budget, where somebody keeps one.
    pub(super) fn came(&self, bytes: usize) -> Result<(), OverBudget> {
        let Some(budget) = &self.host.frame_budget else { return Ok(()) };
        budget.came(&self.subject, bytes as u64)
    }

    /// Under which difference a picture is not rendered again; `None` where all are.
    pub(super) fn similar(&self) -> Option<f32> {
        Some(self.wishes.similar.unwrap_or(self.settings().similar)).filter(|threshold| *threshold > 0.0)
    }
}

/// An input that waits, is rendered, or is answered.
pub(super) struct Asked {
    pub(super) input: LcmInput,
    pub(super) reply: Reply,
    /// Its share of the memory for messages, until its picture is decoded.
    pub(super) memory: Option<Reserved>,
    /// What it was charged, once its turn came.
    pub(super) receipt: Option<Box<dyn FrameReceipt>>,
}

/// How an input is answered.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) arrived: Instant,
    pub(super) request_id: String,
    pub(super) shape: Shape,
    pub(super) steps: u32,
}

/// In which shape a result goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As a message in a dialect.
    Message { dialect: Dialect, form: PictureForm, has_old_field: bool },
    /// As a bare picture.
    Direct { sequence: u32 },
}

impl Reply {
    pub(super) fn request_id(&self) -> Option<&str> {
        Some(self.request_id.as_str()).filter(|id| !id.is_empty())
    }

    pub(super) const fn sequence(&self) -> Option<u32> {
        match self.shape {
            Shape::Message { .. } => None,
            Shape::Direct { sequence } => Some(sequence),
        }
    }
}
