//! The guard's limits, for inputs on sockets that the engine answers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::guard::{Limits, Prices, Subject};
use crate::host::realtime::{FrameAsk, FrameBudget, OverBudget};

/// How long a page waits that asks for what is never allowed: it may as well not ask again.
const NEVER: Duration = Duration::from_secs(86_400);

/// Charges each input to its caller's shares, as the limits charge calls.
#[derive(Debug)]
pub(super) struct FrameLimits {
    pub(super) limits: Limits,
    pub(super) prices: Prices,
}

impl FrameBudget for FrameLimits {
    fn charge(&self, ask: &FrameAsk<'_>) -> Result<(), OverBudget> {
        if self.limits.are_off() {
            return Ok(());
        }
        let subject = Subject {
            address: ask.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            caller: ask.caller.map(|caller| Arc::clone(&caller.name)),
            tier: None,
            endpoint: ask.endpoint.cloned(),
        };
        let cost = self.prices.frame(ask.endpoint, ask.pictures);
        // What is charged for an input stands: it was rendered when it was asked for.
        let charged = self.limits.charge(&subject, cost, None).map(drop);
        charged.map_err(|refusal| OverBudget { wait: refusal.wait().unwrap_or(NEVER) })
    }
}
