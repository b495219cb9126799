//! Checks what only the whole configuration can tell, after each room has checked its own.

use std::path::Path;

use super::{Config, Environment, Fault};
use crate::gate::accept::ProxyProtocol;
use crate::gate::{Destination, Uploads};
use crate::guard::{AccessKeys, CallerPolicy, HumanSecret, JwtKeySource, TokenKeySource, judge_token_keys};
use crate::upstream::{KeyRing, KeySource};
use crate::wire::TokenIssuer;

/// Everything that is wrong with settings that could be read.
pub(super) fn faults(config: &Config, environment: &Environment) -> Vec<Fault> {
    let mut faults = Vec::new();
    room(&mut faults, "gate", config.gate.faults());
    room(&mut faults, "guard", config.guard.faults());
    room(&mut faults, "limits", config.limits.faults());
    room(&mut faults, "proxy", config.proxy.faults());
    room(&mut faults, "upstream", config.upstream.faults());
    room(&mut faults, "engine", config.engine.faults());
    room(&mut faults, "host", config.host.faults());
    room(&mut faults, "playground", config.playground.faults());
    routes(&mut faults, config);
    playground(&mut faults, config);
    uploads(&mut faults, config);
    proxy_protocol(&mut faults, config);
    bodies(&mut faults, config);
    keys(&mut faults, config, environment);
    access_keys(&mut faults, config, environment);
    tokens(&mut faults, config, environment);
    files(&mut faults, config, environment);
    faults
}

/// Puts a room's name before the keys that it found at fault.
fn room(faults: &mut Vec<Fault>, name: &str, found: Vec<(String, String)>) {
    faults.extend(found.into_iter().map(|(key, what)| Fault::new(format!("{name}.{key}"), what)));
}

/// Every row leads somewhere, and someone leads to the engine.
fn routes(faults: &mut Vec<Fault>, config: &Config) {
    for (index, row) in config.route.iter().enumerate() {
        match row.to {
            Destination::Engine if !config.engine.enabled => {
                let what = format!("`{}` goes to the engine, but engine.enabled is false", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].to"), what));
            }
            Destination::Upstream if row.spill.is_some() => {
                let what = format!("`{}` goes upstream already; only rows to the engine spill", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].spill"), what));
            }
            Destination::Engine if row.token == TokenIssuer::Fal => {
                let what = format!("`{}` goes to the engine, and fal's tokens do not open it", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].token"), what));
            }
            Destination::Upstream if row.token == TokenIssuer::Fal && !config.proxy.targets.tokens => {
                let what = format!("is `fal` for `{}`, but proxy.targets.tokens is false", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].token"), what));
            }
            Destination::Upstream if row.token == TokenIssuer::Fal && row.callers == Some(CallerPolicy::Deny) => {
                let what = format!("is `deny` for `{}`, but fal's tokens open it past this gate", row.endpoint);
                faults.push(Fault::new(format!("route[{index}].callers"), what));
            }
            Destination::Engine | Destination::Upstream => {}
        }
    }
    if config.engine.enabled && config.route.iter().all(|row| row.to != Destination::Engine) {
        faults.push(Fault::new("engine.enabled", "is true, but no [[route]] leads to the engine"));
    }
}

/// Somebody answers the page.
fn playground(faults: &mut Vec<Fault>, config: &Config) {
    let Some(endpoint) = config.playground.endpoint().filter(|_| config.playground.enabled) else { return };
    let row = config.route.iter().find(|row| row.endpoint.matches(&endpoint));
    let answered = match row.map(|row| row.to) {
        Some(Destination::Engine) => true,
        Some(Destination::Upstream) | None => {
            config.proxy.targets.endpoints.iter().any(|pattern| pattern.matches(&endpoint))
        }
    };
    if !answered {
        let what = format!("nobody answers `{endpoint}`: no [[route]] and no proxy.targets.endpoints names it");
        faults.push(Fault::new("playground.endpoint", what));
    }
}

/// Whoever is to keep uploads can keep them.
fn uploads(faults: &mut Vec<Fault>, config: &Config) {
    let why = match config.gate.uploads {
        Uploads::Gate if !config.engine.enabled => {
            "is `gate`, which keeps files for its engine, but engine.enabled is false"
        }
        Uploads::Upstream if !config.proxy.targets.storage => "is `upstream`, but proxy.targets.storage is false",
        Uploads::Auto | Uploads::Gate | Uploads::Upstream => return,
    };
    faults.push(Fault::new("gate.uploads", why));
}

/// Somebody may say for whom connections are opened.
fn proxy_protocol(faults: &mut Vec<Fault>, config: &Config) {
    if config.gate.proxy_protocol == ProxyProtocol::Required && config.guard.address.trusted_proxies.is_empty() {
        let what = "is `required`, but guard.address.trusted_proxies names nobody who may connect";
        faults.push(Fault::new("gate.proxy_protocol", what));
    }
}

/// The largest body that may be held fits into the memory of all.
fn bodies(faults: &mut Vec<Fault>, config: &Config) {
    let checked = (!config.proxy.policy.is_empty()).then_some(config.proxy.checked_body_limit_bytes);
    let spilled = config.route.iter().any(|row| row.spill.is_some()).then_some(config.host.max_body_bytes);
    let keys = [("proxy.checked_body_limit_bytes", checked), ("host.max_body_bytes", spilled)];
    for (key, most) in keys {
        if let Some(most) = most.filter(|most| *most > config.gate.bodies_bytes) {
            let what = format!("{} is less than {key}, {most}", config.gate.bodies_bytes);
            faults.push(Fault::new("gate.bodies_bytes", what));
        }
    }
}

/// Where a call may go upstream, there is a key for it.
fn keys(faults: &mut Vec<Fault>, config: &Config, environment: &Environment) {
    let Some(why) = config.why_a_key_is_needed() else { return };
    let missing = config.upstream.keys.iter().any(|source| match source {
        KeySource::File(path) => environment.lacks(path),
        KeySource::Env(_) | KeySource::EnvPair { .. } => false,
    });
    let hidden = !environment.sees_disk() && config.upstream.keys.iter().any(|key| matches!(key, KeySource::File(_)));
    if missing || hidden {
        return;
    }
    if let Err(error) = KeyRing::open(&config.upstream.keys, |name| environment.look_up(name)) {
        faults.push(Fault::new("upstream.keys", format!("{error}; {why}")));
    }
}

/// The access keys of the direct door are there and are keys.
fn access_keys(faults: &mut Vec<Fault>, config: &Config, environment: &Environment) {
    let settings = &config.guard.keys;
    let mut judge = |key: &str, text: &str| {
        if let Err(fault) = AccessKeys::read([text]) {
            faults.push(Fault::new(key, fault.to_string()));
        }
    };
    if let Some(path) = settings.file.as_deref().filter(|path| environment.sees_disk() && path.exists()) {
        match std::fs::read_to_string(path) {
            Ok(text) => judge("guard.keys.file", &text),
            Err(error) => {
                faults.push(Fault::new("guard.keys.file", format!("cannot read {}: {error}", path.display())));
                return;
            }
        }
    }
    if let Some(name) = &settings.env {
        match environment.look_up(name) {
            Some(text) => judge("guard.keys.env", &text),
            None => faults.push(Fault::new("guard.keys.env", format!("the variable {name} is not set"))),
        }
    }
}

/// What signs tokens can sign. A file that is not there yet is made at the start.
fn tokens(faults: &mut Vec<Fault>, config: &Config, environment: &Environment) {
    let settings = &config.guard.tokens;
    let is_file = matches!(settings.keys, TokenKeySource::File(_));
    if config.why_tokens_are_signed().is_none() || is_file && !environment.sees_disk() {
        return;
    }
    if let Err(error) = judge_token_keys(settings, |name| environment.look_up(name)) {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
        faults.push(Fault::new("guard.tokens.keys", format!("{error}{cause}")));
    }
}

/// Files and folders that are named are there.
fn files(faults: &mut Vec<Fault>, config: &Config, environment: &Environment) {
    let mut look = |key: &str, path: Option<&Path>| {
        if let Some(path) = path.filter(|path| environment.lacks(path)) {
            faults.push(Fault::new(key, format!("{} is not there", path.display())));
        }
    };
    if let Some(tls) = &config.gate.tls {
        look("gate.tls.cert_file", Some(&tls.cert_file));
        look("gate.tls.key_file", Some(&tls.key_file));
    }
    look("guard.keys.file", config.guard.keys.file.as_deref());
    look("guard.identity.ca_file", config.guard.identity.ca_file.as_deref());
    if let Some(JwtKeySource::PemFile(path)) = config.guard.jwt.as_ref().map(|jwt| &jwt.keys) {
        look("guard.jwt.keys.pem_file", Some(path));
    }
    if let Some(HumanSecret::File(path)) = config.guard.human.as_ref().map(|human| &human.secret) {
        look("guard.human.secret.file", Some(path));
    }
    look("host.fetch.ca_file", config.host.fetch.ca_file.as_deref());
    look("upstream.ca_file", config.upstream.ca_file.as_deref());
    for (index, source) in config.upstream.keys.iter().enumerate() {
        if let KeySource::File(path) = source {
            look(&format!("upstream.keys[{index}].file"), Some(path));
        }
    }
    if config.engine.enabled {
        look("engine.model", config.engine.model.as_deref().filter(|model| !model.as_os_str().is_empty()));
        look("engine.library", config.engine.library.as_deref());
        for folder in &config.engine.cuda_libraries {
            look("engine.cuda_libraries", Some(folder));
        }
    }
}
