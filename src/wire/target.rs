//! Which URLs may be called with the fal key. Admission is the only way to a [`TargetUrl`].

use std::sync::Arc;

use http::Method;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::call::{Door, from_legacy};
use super::target_text::{decode_path, names_a_webhook, parse_target, write_path};
use super::{EndpointPattern, FalCall, HostClass, NoCall, TargetRefusal, WishedApp};

/// Hosts whose calls falgate understands, with their class. Compared exactly, in lower case.
const HOSTS: [(&str, HostClass); 4] = [
    ("fal.run", HostClass::Run),
    ("queue.fal.run", HostClass::Queue),
    ("rest.fal.ai", HostClass::Rest),
    ("rest.alpha.fal.ai", HostClass::Rest),
];
const LEGACY_GATEWAY: &str = ".gateway.alpha.fal.ai";

/// What may be called.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TargetSettings {
    /// Endpoints that may be called with the key, as globs: `fal-ai/flux/dev`, `fal-ai/*`, `fal-ai/**`. None by default,
    /// so that a fresh gate is no open door to the owner's bill. Endpoints that a route gives to the engine need no entry.
    pub endpoints: Vec<EndpointPattern>,
    /// Let callers have fal's own tokens, for the allowed endpoints whose route says `token = "fal"`. What they do with
    /// one goes past this gate: it is neither metered nor limited here.
    pub tokens: bool,
    /// Let callers use fal's storage through the proxy.
    pub storage: bool,
    /// Let callers name a `fal_webhook` that fal will call, and fetch the keys that sign its calls.
    pub webhooks: bool,
}

/// The admitted address of a call: host class, path and query in one normal form, and what it asks for.
///
/// The dialled host never comes from the caller: it is the table entry of [`TargetUrl::class`].
///
/// Clones share it.
#[derive(Debug, Clone)]
pub struct TargetUrl(Arc<Admitted>);

#[derive(Debug)]
struct Admitted {
    class: HostClass,
    path_and_query: PathAndQuery,
    call: FalCall,
    reach: Reach,
}

/// How far an admitted call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only to whoever answers it here.
    Here,
    /// To fal too, with the owner's key.
    Fal,
}

/// Who signs the tokens for an app's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TokenIssuer {
    /// This gate: the socket comes here, and is relayed and metered where its app is not hosted.
    #[default]
    Gate,
    /// fal: the socket goes past this gate.
    Fal,
}

impl TargetUrl {
    /// Which of fal's hosts is meant.
    #[must_use]
    pub fn class(&self) -> HostClass {
        self.0.class
    }

    /// Path and query, normalised: what was compared is what is sent.
    #[must_use]
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.0.path_and_query
    }

    /// What is asked, and of which app.
    #[must_use]
    pub fn call(&self) -> &FalCall {
        &self.0.call
    }

    /// How far the call may go.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.0.reach
    }

    /// The same call, for a caller who is not let further than whoever answers here.
    #[must_use]
    pub fn kept_here(&self) -> Self {
        let Admitted { class, path_and_query, call, reach: _ } = &*self.0;
        let (path_and_query, call) = (path_and_query.clone(), call.clone());
        Self(Arc::new(Admitted { class: *class, path_and_query, call, reach: Reach::Here }))
    }
}

/// A call as a path, with all that decides what it means.
#[derive(Debug, Clone, Copy)]
pub struct PlainPath<'a> {
    /// The host class that the path is read for; a legacy label overrules it.
    pub class: HostClass,
    /// First label of a legacy gateway host name, `{n}-{alias}`.
    pub legacy_label: Option<&'a str>,
    /// The request's method.
    pub method: &'a Method,
    /// Path and query as they came.
    pub path_and_query: &'a str,
    /// Plain HTTP, or a WebSocket handshake.
    pub door: Door,
}

/// The gate keeper: admits targets, or says why not.
#[derive(Debug, Clone, Default)]
pub struct AllowedTargets {
    settings: TargetSettings,
    rows: Vec<(EndpointPattern, Option<Reach>)>,
    issuers: Option<Vec<(EndpointPattern, TokenIssuer)>>,
    hosts_storage: bool,
}

impl AllowedTargets {
    /// Admits what the settings allow.
    #[must_use]
    pub const fn new(settings: TargetSettings) -> Self {
        Self { settings, rows: Vec::new(), issuers: None, hosts_storage: false }
    }

    /// Also admits endpoints by the first row that matches, as far as that row says. `None` is a row that admits nothing:
    /// what it matches needs an entry of the allow list, whatever a later row says.
    #[must_use]
    pub fn with_rows(mut self, rows: impl IntoIterator<Item = (EndpointPattern, Option<Reach>)>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Also admits calls for tokens, because they are signed here: for every app but those for which the first row that
    /// matches says otherwise.
    #[must_use]
    pub fn with_issuers(mut self, rows: impl IntoIterator<Item = (EndpointPattern, TokenIssuer)>) -> Self {
        self.issuers = Some(rows.into_iter().collect());
        self
    }

    /// Also admits uploads, because they are kept here.
    #[must_use]
    pub const fn with_hosted_storage(mut self) -> Self {
        self.hosts_storage = true;
        self
    }

    /// Admits the value of an `x-fal-target-url` header.
    ///
    /// # Errors
    /// [`TargetRefusal`] unless it is an https URL on a host of fal's, without user info or odd port, whose path is an
    /// allowed call.
    pub fn admit(&self, header: Option<&HeaderValue>, method: &Method) -> Result<TargetUrl, TargetRefusal> {
        let header = header.map(HeaderValue::as_bytes).unwrap_or_default();
        if header.is_empty() {
            return Err(TargetRefusal::Missing);
        }
        let (uri, host) = parse_target(header)?;
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        if let Some((_, class)) = HOSTS.iter().find(|(name, _)| *name == host) {
            let call = PlainPath { class: *class, legacy_label: None, method, path_and_query: path, door: Door::Http };
            return self.admit_path(&call);
        }
        match host.strip_suffix(LEGACY_GATEWAY) {
            Some(label) => self.admit_path(&PlainPath {
                class: HostClass::Run,
                legacy_label: Some(label),
                method,
                path_and_query: path,
                door: Door::Http,
            }),
            None => Err(TargetRefusal::Invalid("the host is none of fal's")),
        }
    }

    /// Admits a call that came as a plain path: at the gate itself, or on a host name of its own.
    ///
    /// # Errors
    /// [`TargetRefusal`] unless the path is an allowed call.
    pub fn admit_path(&self, plain: &PlainPath<'_>) -> Result<TargetUrl, TargetRefusal> {
        let (path, query) = match plain.path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (plain.path_and_query, None),
        };
        let decoded = decode_path(path)?;
        let segments: Vec<&str> = decoded.split('/').filter(|segment| !segment.is_empty()).collect();
        let (class, segments) = match plain.legacy_label {
            Some(label) => from_legacy(label, &segments).ok_or(TargetRefusal::Invalid("the host is none of fal's"))?,
            None => (plain.class, segments),
        };
        let call =
            FalCall::from_segments(class, plain.method, &segments, plain.door).map_err(|no_call| match no_call {
                NoCall::UnknownPath => TargetRefusal::UnknownPath { path: path.to_owned() },
                NoCall::Method(allow) => TargetRefusal::Method { allow },
            })?;
        let reach = self.allow(&call, query)?;
        let path_and_query = write_path(&call, &segments, path.ends_with('/'), query)?;
        Ok(TargetUrl(Arc::new(Admitted { class, path_and_query, call, reach })))
    }

    fn allow(&self, call: &FalCall, query: Option<&str>) -> Result<Reach, TargetRefusal> {
        use super::CallKind as Kind;
        match call.kind {
            // Whoever may call fal may have tokens for sockets to fal; all others have them for what is hosted here.
            Kind::Token if self.issuers.is_some() && self.settings.endpoints.is_empty() => return Ok(Reach::Here),
            Kind::Token if self.issuers.is_none() && !self.settings.tokens => {
                return Err(TargetRefusal::SwitchedOff { what: "tokens" });
            }
            Kind::Initiate | Kind::InitiateMultipart | Kind::UploadToken if self.hosts_storage => {
                return Ok(Reach::Here);
            }
            Kind::Initiate | Kind::InitiateMultipart | Kind::UploadToken if !self.settings.storage => {
                return Err(TargetRefusal::SwitchedOff { what: "uploads" });
            }
            Kind::WebhookKeys if !self.settings.webhooks => {
                return Err(TargetRefusal::SwitchedOff { what: "webhooks" });
            }
            _ => {}
        }
        if !self.settings.webhooks && query.is_some_and(names_a_webhook) {
            return Err(TargetRefusal::SwitchedOff { what: "webhooks" });
        }
        let Some(endpoint) = &call.endpoint else { return Ok(Reach::Fal) };
        let meant = |pattern: &EndpointPattern| {
            pattern.matches(endpoint) || call.kind.names_only_the_app() && pattern.matches_app(endpoint)
        };
        if self.settings.endpoints.iter().any(meant) {
            return Ok(Reach::Fal);
        }
        let row = self.rows.iter().find(|(pattern, _)| meant(pattern));
        row.and_then(|(_, reach)| *reach).ok_or_else(|| TargetRefusal::Endpoint { endpoint: endpoint.to_string() })
    }

    /// Who signs tokens for an app, for a caller who comes as far as `reach`; `None` where there is none for it.
    ///
    /// fal signs for what the allow list names, and no more. An alias stands for every app of that name: the first row that
    /// could mean it decides.
    #[must_use]
    pub fn issuer(&self, app: &WishedApp, reach: Reach) -> Option<TokenIssuer> {
        let meant = |pattern: &EndpointPattern| match app.endpoint() {
            Some(endpoint) => pattern.matches_app(endpoint),
            None => pattern.matches_alias(app.alias()),
        };
        let is_listed = reach == Reach::Fal && self.settings.endpoints.iter().any(meant);
        let Some(issuers) = &self.issuers else {
            return (is_listed && self.settings.tokens).then_some(TokenIssuer::Fal);
        };
        let row = self.rows.iter().find(|(pattern, _)| meant(pattern));
        let is_hosted = row.is_some_and(|(_, reach)| reach.is_some());
        let row = issuers.iter().find(|(pattern, _)| meant(pattern));
        let issuer = row.map_or(TokenIssuer::Gate, |(_, issuer)| *issuer);
        match issuer {
            TokenIssuer::Gate => (is_hosted || is_listed).then_some(issuer),
            TokenIssuer::Fal => (is_listed && self.settings.tokens).then_some(issuer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(endpoints: &[&str]) -> AllowedTargets {
        let endpoints = endpoints.iter().map(|pattern| EndpointPattern::parse(pattern).unwrap()).collect();
        AllowedTargets::new(TargetSettings { endpoints, ..TargetSettings::default() })
    }

    fn admit(gate: &AllowedTargets, method: &Method, target: &str) -> Result<TargetUrl, TargetRefusal> {
        gate.admit(Some(&HeaderValue::from_str(target).unwrap()), method)
    }

    #[test]
    fn a_plain_target_keeps_its_path_and_query() {
        let target = admit(&gate(&["fal-ai/**"]), &Method::POST, "https://fal.run/fal-ai/flux/dev?a=1").unwrap();
        assert_eq!(target.path_and_query(), "/fal-ai/flux/dev?a=1");
        assert_eq!(target.class(), HostClass::Run);
    }

    #[test]
    fn a_legacy_host_becomes_the_call_of_today() {
        let gate = gate(&["fal-ai/lcm-sd15-i2i"]);
        let legacy = "https://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai";
        let run = admit(&gate, &Method::POST, &format!("{legacy}/")).unwrap();
        assert_eq!((run.class(), run.path_and_query().as_str()), (HostClass::Run, "/110602490/lcm-sd15-i2i"));
        let status = admit(&gate, &Method::GET, &format!("{legacy}/fal/queue/requests/abc/status?logs=1")).unwrap();
        assert_eq!(status.path_and_query(), "/110602490/lcm-sd15-i2i/requests/abc/status?logs=1");
        assert_eq!(status.call().kind, super::super::CallKind::Status);
    }

    #[test]
    fn hostile_targets_are_refused() {
        let gate = gate(&["**"]);
        for target in [
            "not a url",
            "http://fal.run/a/b",
            "https://a:b@fal.run/a/b",
            "https://fal.run@evil.test/a/b",
            "https://fal.run:1/a/b",
            "https://fal.run.evil.test/a/b",
            "https://notfal.run/a/b",
            "https://evil.test/?fal.ai",
            "https://fal.run./a/b",
            "https://fal.run\\@evil.test/a/b",
            "https://fal.run/a%2fb",
            "https://fal.run/a/../b/c",
            "https://fal.run/a/%2e%2e/b",
            "https://fal.run/a/b;c",
            "https://fal.run/a/b#c",
            "https://x.fal.run/a/b",
            "ftp://fal.run/a/b",
            "//fal.run/a/b",
            "/a/b",
            "https:///a/b",
            "https://[::1]/a/b",
            "https://fal.run/a/b%00",
        ] {
            assert!(matches!(admit(&gate, &Method::POST, target), Err(TargetRefusal::Invalid(_))), "{target}");
        }
    }

    #[test]
    fn the_first_row_that_matches_says_how_far_a_call_may_go() {
        let pattern = |text: &str| EndpointPattern::parse(text).unwrap();
        let rows = [
            (pattern("fal-ai/flux/**"), None),
            (pattern("fal-ai/lcm"), Some(Reach::Fal)),
            (pattern("fal-ai/**"), Some(Reach::Here)),
        ];
        let gate = gate(&["fal-ai/listed"]).with_rows(rows);
        let reach =
            |id: &str| admit(&gate, &Method::POST, &format!("https://fal.run/{id}")).map(|target| target.reach());
        assert_eq!(reach("fal-ai/other"), Ok(Reach::Here));
        assert_eq!(reach("fal-ai/lcm"), Ok(Reach::Fal));
        assert_eq!(reach("fal-ai/listed"), Ok(Reach::Fal));
        assert!(matches!(reach("fal-ai/flux/dev"), Err(TargetRefusal::Endpoint { .. })));
    }

    #[test]
    fn calls_that_are_switched_off_say_so() {
        let gate = gate(&["fal-ai/flux"]);
        let off = |target: &str| admit(&gate, &Method::POST, target).unwrap_err();
        assert_eq!(off("https://rest.fal.ai/tokens/"), TargetRefusal::SwitchedOff { what: "tokens" });
        let initiate = "https://rest.alpha.fal.ai/storage/upload/initiate";
        assert_eq!(off(initiate), TargetRefusal::SwitchedOff { what: "uploads" });
        for webhook in ["fal_webhook=x", "a=1&fal%5Fwebhook=x", "FAL_WEBHOOK=x", "a;fal_webhook=x"] {
            let target = format!("https://queue.fal.run/fal-ai/flux?{webhook}");
            assert_eq!(off(&target), TargetRefusal::SwitchedOff { what: "webhooks" }, "{webhook}");
        }
        let keys = admit(&gate, &Method::GET, "https://rest.fal.ai/.well-known/jwks.json").unwrap_err();
        assert_eq!(keys, TargetRefusal::SwitchedOff { what: "webhooks" });
        assert!(matches!(off("https://fal.run/fal-ai/flux/dev"), TargetRefusal::Endpoint { .. }));
        assert!(matches!(off("https://rest.fal.ai/billing"), TargetRefusal::UnknownPath { .. }));
    }
}
