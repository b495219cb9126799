//! `falgate limits`.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use falgate::config::Environment;
use falgate::guard::{ShareStanding, Usage};
use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

use super::arguments::{AdminOf, LimitsCommand, ShowLimits};
use super::exit::Failure;
use super::{admin_call, configuration, limits_table};

/// What cannot stand in a path. `%` can: keys come percent-encoded already.
const NO_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'\\').add(b'^');

/// Shows what the limits of a running gate did, or lets one share off.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(command: &LimitsCommand, environment: &Environment) -> Result<(), Failure> {
    match command {
        LimitsCommand::Show(show) => println!("{}", shown(show, environment)?.trim_end()),
        LimitsCommand::Reset { key, admin } => {
            let answer: Value = admin_call::call(address(admin, environment)?, Method::DELETE, &path(key))?;
            match answer.get("limits").and_then(Value::as_u64) {
                None | Some(0) => println!("{key}: no limit had anything to forget"),
                Some(1) => println!("{key}: let off by one limit"),
                Some(count) => println!("{key}: let off by {count} limits"),
            }
        }
    }
    Ok(())
}

fn shown(show: &ShowLimits, environment: &Environment) -> Result<String, Failure> {
    let address = address(&show.admin, environment)?;
    if let Some(key) = &show.key {
        let standing: ShareStanding = admin_call::call(address, Method::GET, &path(key))?;
        return Ok(if show.json { json(&standing) } else { limits_table::of_share(&standing) });
    }
    let usage: Usage = admin_call::call(address, Method::GET, "/limits")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(if show.json { json(&usage) } else { limits_table::of_all(&usage, now) })
}

fn path(key: &str) -> String {
    format!("/limits/{}", utf8_percent_encode(key, NO_PATH))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers always serialise")
}

/// Where the admin listener is: as told, or as the configuration has it. One that listens on every address is asked on
/// this machine.
fn address(admin: &AdminOf, environment: &Environment) -> Result<SocketAddr, Failure> {
    if let Some(address) = admin.admin {
        return Ok(address);
    }
    let config = configuration::load(&admin.file, environment)?;
    let unknown = |why: &str| Failure::Usage { what: format!("{why}; --admin ADDRESS says where it listens") };
    let mut address = config.gate.admin.ok_or_else(|| unknown("gate.admin is not set, so no gate can be asked"))?;
    if address.port() == 0 {
        return Err(unknown("gate.admin has port 0, which is another at each start"));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}
