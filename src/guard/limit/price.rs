//! What calls and frames cost, before they are made.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::cost::{Cost, Dimension};
use super::settings::{CostSettings, LimitSettings};
use crate::wire::{CallKind, EndpointId, FalCall};

/// What one poll of a queued request counts as: fifty are one call, so that pages may poll (conformance case 19).
const POLL: f64 = 0.02;

/// The price list. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Prices(Arc<ArcSwap<Vec<CostSettings>>>);

impl Prices {
    /// The prices of these settings.
    #[must_use]
    pub fn new(settings: &LimitSettings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings.cost.clone())))
    }

    /// The prices of these settings from now on.
    pub fn replace(&self, settings: &LimitSettings) {
        self.0.store(Arc::new(settings.cost.clone()));
    }

    /// What a call is expected to cost. Opening a socket costs a request; its frames cost what they make.
    #[must_use]
    pub fn call(&self, call: &FalCall, body_bytes: u64) -> Cost {
        let requests = |count: f64| Cost::ZERO.with_units(Dimension::Requests, count);
        let cost = match call.kind {
            CallKind::Run | CallKind::Stream | CallKind::Submit => self.picture(call.endpoint.as_ref(), requests(1.0)),
            CallKind::Status | CallKind::StatusStream | CallKind::Result | CallKind::Cancel | CallKind::Health => {
                requests(POLL)
            }
            CallKind::Realtime
            | CallKind::Token
            | CallKind::Initiate
            | CallKind::InitiateMultipart
            | CallKind::UploadToken
            | CallKind::WebhookKeys => requests(1.0),
        };
        cost.with_cells(Dimension::Bytes, body_bytes)
    }

    /// What an input over a socket is expected to cost, of which `pictures` are wished. It is no request: those are counted
    /// when the socket opens.
    #[must_use]
    pub fn frame(&self, endpoint: Option<&EndpointId>, pictures: u32) -> Cost {
        let one = self.picture(endpoint, Cost::ZERO.with_cells(Dimension::Frames, 1));
        let work = [Dimension::Pictures, Dimension::GpuMs, Dimension::Cents];
        work.into_iter().fold(one, |cost, of| cost.with_cells(of, one.cells(of).saturating_mul(u64::from(pictures))))
    }

    fn picture(&self, endpoint: Option<&EndpointId>, cost: Cost) -> Cost {
        let is_meant =
            |row: &&CostSettings| endpoint.is_some_and(|id| row.endpoints.iter().any(|pattern| pattern.matches(id)));
        match self.0.load().iter().find(is_meant) {
            None => cost.with_cells(Dimension::Pictures, 1),
            Some(row) => cost
                .with_cells(Dimension::Pictures, u64::from(row.pictures.get()))
                .with_cells(Dimension::GpuMs, u64::from(row.gpu_ms))
                .with_units(Dimension::Cents, row.cents),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: CallKind) -> FalCall {
        FalCall { kind, endpoint: EndpointId::parse("fal-ai/fast-sdxl"), request_id: None }
    }

    #[test]
    fn fifty_polls_are_one_request_and_no_picture() {
        let poll = Prices::default().call(&call(CallKind::Status), 0);
        assert_eq!(poll.cells(Dimension::Requests) * 50, Dimension::Requests.cells_per_unit());
        assert_eq!(poll.cells(Dimension::Pictures), 0);
    }

    #[test]
    fn the_first_row_that_matches_sets_the_price() {
        let settings: LimitSettings = serde_json::from_str(
            r#"{"cost": [{"endpoints": ["fal-ai/fast-sdxl"], "pictures": 4, "cents": 0.25, "gpu_ms": 900},
                         {"endpoints": ["**"], "cents": 9}]}"#,
        )
        .unwrap();
        let run = Prices::new(&settings).call(&call(CallKind::Run), 77);
        let cells = [Dimension::Pictures, Dimension::Cents, Dimension::GpuMs, Dimension::Bytes].map(|of| run.cells(of));
        assert_eq!(cells, [4, 250, 900, 77]);
        let frame = Prices::new(&settings).frame(EndpointId::parse("fal-ai/lcm").as_ref(), 2);
        let cells = [Dimension::Frames, Dimension::Requests, Dimension::Cents].map(|of| frame.cells(of));
        assert_eq!(cells, [1, 0, 18_000]);
    }
}
