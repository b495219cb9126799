//! What one socket's work is made of: the host behind it, and what is known of its page.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::frame_budget::{FrameAsk, FrameCharge};
use super::metrics::SocketMetrics;
use super::settings::RealtimeSettings;
use crate::guard::Caller;
use crate::host::Host;
use crate::wire::message::{Dialect, PictureForm};
use crate::wire::{EndpointId, LcmInput, PublicOrigin, Reserved, SocketWishes};

/// One socket's place at the host. Work in hand shares it.
pub(super) struct Seat {
    pub(super) host: Arc<Host>,
    pub(super) origin: Option<PublicOrigin>,
    pub(super) wishes: SocketWishes,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) caller: Option<Caller>,
    pub(super) client: Option<IpAddr>,
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
        let (caller, client, endpoint) = (self.caller.as_ref(), self.client, self.endpoint.as_ref());
        Some(budget.charge(&FrameAsk { caller, client, endpoint, pictures: input.num_images }))
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
