//! Which endpoints are answered here and which go upstream.

use serde::{Deserialize, Serialize};

use crate::guard::CallerPolicy;
use crate::wire::{CallKind, EndpointPattern, FalCall, Reach, TokenIssuer};

/// One row of the route table, `[[route]]`. The first row that matches decides; without one a call goes upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// Endpoints that the row is about, as a glob: `fal-ai/lcm-sd15-i2i`, `fal-ai/*`, `**`.
    pub endpoint: EndpointPattern,
    /// Who answers.
    pub to: Destination,
    /// Where a call goes when the engine's queue is full. Only for rows to the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<Spill>,
    /// Who signs the tokens for its sockets. `gate`: sockets come here, and are relayed and metered where the row leads
    /// upstream. `fal`: the gate asks fal for a token with the key, and the page's socket goes past the gate, unmetered;
    /// needs `proxy.targets.tokens`, and pages without falgate's script.
    #[serde(default, skip_serializing_if = "is_gate")]
    pub token: TokenIssuer,
    /// Who may call: `required`, `anonymous` or `deny`, as `guard.identity.callers` says for all other rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callers: Option<CallerPolicy>,
}

fn is_gate(issuer: &TokenIssuer) -> bool {
    *issuer == TokenIssuer::Gate
}

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// The embedded engine.
    Engine,
    /// fal, or another falgate.
    Upstream,
}

/// Where calls go that the engine has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spill {
    /// To the upstream, with the key.
    Upstream,
}

/// The decision for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Who answers.
    pub to: Destination,
    /// Who answers when that one is full.
    pub spill: Option<Spill>,
}

/// The route table.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    rows: Vec<RouteSettings>,
    engine_keeps_uploads: bool,
}

impl RouteTable {
    /// Takes the rows in order. With `engine_keeps_uploads`, upload URLs are handed out by this gate.
    #[must_use]
    pub const fn new(rows: Vec<RouteSettings>, engine_keeps_uploads: bool) -> Self {
        Self { rows, engine_keeps_uploads }
    }

    /// Decides who answers a call.
    #[must_use]
    pub fn decide(&self, call: &FalCall) -> Decision {
        let upstream = Decision { to: Destination::Upstream, spill: None };
        let Some(endpoint) = &call.endpoint else {
            return match call.kind {
                CallKind::Initiate | CallKind::InitiateMultipart | CallKind::UploadToken
                    if self.engine_keeps_uploads =>
                {
                    Decision { to: Destination::Engine, spill: None }
                }
                _ => upstream,
            };
        };
        let meant = |row: &&RouteSettings| {
            row.endpoint.matches(endpoint) || call.kind.names_only_the_app() && row.endpoint.matches_app(endpoint)
        };
        self.rows.iter().find(meant).map_or(upstream, |row| Decision { to: row.to, spill: row.spill })
    }

    /// Who may call, row by row.
    pub fn callers(&self) -> impl Iterator<Item = (EndpointPattern, Option<CallerPolicy>)> {
        self.rows.iter().map(|row| (row.endpoint.clone(), row.callers))
    }

    /// Who signs tokens, row by row.
    pub fn issuers(&self) -> impl Iterator<Item = (EndpointPattern, TokenIssuer)> {
        self.rows.iter().map(|row| (row.endpoint.clone(), row.token))
    }

    /// How far the rows let calls go that no allow list names: to the engine, with `spilling` for rows that spill, and
    /// never straight upstream.
    pub fn reaches(&self, spilling: Reach) -> impl Iterator<Item = (EndpointPattern, Option<Reach>)> {
        self.rows.iter().map(move |row| {
            let reach = match (row.to, row.spill) {
                (Destination::Engine, None) => Some(Reach::Here),
                (Destination::Engine, Some(Spill::Upstream)) => Some(spilling),
                (Destination::Upstream, _) => None,
            };
            (row.endpoint.clone(), reach)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EndpointId;

    fn row(endpoint: &str, to: Destination) -> RouteSettings {
        let endpoint = EndpointPattern::parse(endpoint).unwrap();
        RouteSettings { endpoint, to, spill: None, token: TokenIssuer::Gate, callers: None }
    }

    fn call(kind: CallKind, endpoint: &str) -> FalCall {
        FalCall { kind, endpoint: EndpointId::parse(endpoint), request_id: None }
    }

    #[test]
    fn the_first_row_that_matches_decides() {
        let rows = vec![row("fal-ai/lcm-sd15-i2i", Destination::Engine), row("fal-ai/**", Destination::Upstream)];
        let table = RouteTable::new(rows, false);
        assert_eq!(table.decide(&call(CallKind::Run, "110602490-lcm-sd15-i2i")).to, Destination::Engine);
        assert_eq!(table.decide(&call(CallKind::Run, "fal-ai/flux")).to, Destination::Upstream);
        assert_eq!(table.decide(&call(CallKind::Run, "me/mine")).to, Destination::Upstream);
        let reaches: Vec<_> = table.reaches(Reach::Fal).map(|(_, reach)| reach).collect();
        assert_eq!(reaches, [Some(Reach::Here), None]);
    }

    #[test]
    fn a_status_url_without_the_path_follows_its_endpoint() {
        let table = RouteTable::new(vec![row("fal-ai/fast-lcm/image-to-image", Destination::Engine)], false);
        assert_eq!(table.decide(&call(CallKind::Status, "fal-ai/fast-lcm")).to, Destination::Engine);
        assert_eq!(table.decide(&call(CallKind::Run, "fal-ai/fast-lcm")).to, Destination::Upstream);
    }

    #[test]
    fn uploads_stay_here_only_where_the_engine_keeps_them() {
        let initiate = FalCall { kind: CallKind::Initiate, endpoint: None, request_id: None };
        assert_eq!(RouteTable::new(Vec::new(), true).decide(&initiate).to, Destination::Engine);
        assert_eq!(RouteTable::new(Vec::new(), false).decide(&initiate).to, Destination::Upstream);
    }
}
