//! One TOML file and the environment become checked settings of each room.
//!
//! [`Config::load`] takes texts, not paths: the caller reads the file and the process environment. Whatever is wrong is
//! reported at once, each fault with its key.

mod check;
mod environment;
mod fault;
mod gather;
mod key_path;
mod overlay;
mod renamed;
mod secret_text;

pub use environment::{Environment, SETTING_PREFIX};
pub use fault::{Fault, Faults};

use serde::{Deserialize, Serialize};
use toml::Table;

use crate::engine::EngineSettings;
use crate::gate::{Destination, GateSettings, RouteSettings};
use crate::guard::GuardSettings;
use crate::host::HostSettings;
use crate::proxy::ProxySettings;
use crate::telemetry::LogSettings;
use crate::upstream::UpstreamSettings;

/// The whole configuration: the settings of every room, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the gate listens and how it is reached.
    pub gate: GateSettings,
    /// Who may come in.
    pub guard: GuardSettings,
    /// The key proxy: where it answers, what may be called through it, and with which inputs.
    pub proxy: ProxySettings,
    /// Calls to fal: with which key, to which address, and for how long.
    pub upstream: UpstreamSettings,
    /// The embedded engine: which model runs where, and how jobs wait for it.
    pub engine: EngineSettings,
    /// Answering calls from the embedded engine.
    pub host: HostSettings,
    /// Logs. They go to standard error.
    pub telemetry: LogSettings,
    /// Which endpoints are answered here and which go upstream. The first row that matches decides; a call that matches
    /// none goes upstream.
    pub route: Vec<RouteSettings>,
}

impl Config {
    /// Reads settings from a file's text, lays the environment's over them, and checks all of it.
    ///
    /// # Errors
    /// Every [`Fault`] that was found.
    pub fn load(text: &str, environment: &Environment) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut root = parse(text).map_err(|fault| Faults(vec![fault]))?;
        let mut overlay = overlay::Overlay::apply(environment, &mut root, &mut faults);
        secret_text::take_out(&mut root, &overlay, &mut faults);
        renamed::take_out(&mut root, &overlay, &mut faults);
        let gathered = gather::gather::<Self>(root, &mut overlay);
        faults.extend(gathered.faults);
        // Checked even where something could not be read, so that a person mends a file once.
        if let Some(config) = &gathered.settings {
            for fault in check::faults(config, environment) {
                if !faults.iter().any(|told| told.key == fault.key) {
                    faults.push(overlay.with_variable(fault));
                }
            }
        }
        match gathered.settings {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(Faults(faults)),
        }
    }

    /// Why a fal key is needed, if one is: what may be called upstream.
    #[must_use]
    pub fn why_a_key_is_needed(&self) -> Option<String> {
        let targets = &self.proxy.targets;
        for (index, row) in self.route.iter().enumerate() {
            if row.to == Destination::Upstream || row.spill.is_some() {
                return Some(format!("route[{index}] leads `{}` to the upstream", row.endpoint));
            }
        }
        // An endpoint that a row gives to the engine needs no entry here, so an entry means fal.
        if let Some(endpoint) = targets.endpoints.first() {
            return Some(format!("proxy.targets.endpoints allows `{endpoint}`"));
        }
        let switches = [("tokens", targets.tokens), ("storage", targets.storage)];
        switches.iter().find(|(_, on)| *on).map(|(name, _)| format!("proxy.targets.{name} is on"))
    }

    /// Why tokens are signed, if they are: what a socket could be opened to.
    #[must_use]
    pub fn why_tokens_are_signed(&self) -> Option<&'static str> {
        if self.engine.enabled {
            return Some("engine.enabled is true");
        }
        (!self.proxy.targets.endpoints.is_empty()).then_some("proxy.targets.endpoints allows calls to fal")
    }

    /// The JSON Schema of the file, for editors.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Self).to_value();
        schema["title"] = "falgate configuration".into();
        schema
    }
}

/// Parses TOML. The fault names line and column and shows nothing of the text: it may hold a secret.
fn parse(text: &str) -> Result<Table, Fault> {
    text.parse::<Table>().map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Fault::new("", format!("line {line}, column {column} is no TOML: {}", error.message().replace('\n', ", ")))
    })
}
