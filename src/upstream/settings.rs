//! What an operator may set about calls to fal.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Addresses, KeySource, SocketSettings};
use crate::wire::HostClass;

/// Calls to fal: with which key, to which address, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamSettings {
    /// Where to look for fal keys, in order of preference: `{ env = "FAL_KEY" }`, `{ env_pair = { id = "FAL_KEY_ID",
    /// secret = "FAL_KEY_SECRET" } }` or `{ file = "/run/secrets/fal_key" }`. Another key is tried when one is refused or
    /// at its limit.
    pub keys: Vec<KeySource>,
    /// How often key files are looked at for a change, in seconds.
    pub key_watch_s: NonZeroU64,
    /// Largest body that is held in memory to repeat a call with another key, in bytes. 0 holds none.
    pub key_replay_bytes: u64,
    /// Where each class of fal's hosts is reached.
    pub addresses: Addresses,
    /// Let addresses of this machine (127.0.0.1, ::1, localhost) be plain `http`. All others are always `https`.
    pub allow_plain_loopback: bool,
    /// A PEM file with certificates to trust besides the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Longest time to connect, TLS included, in milliseconds.
    pub connect_timeout_ms: NonZeroU64,
    /// Longest wait for the head of an answer once the request is sent, in milliseconds.
    pub first_byte_timeout_ms: NonZeroU64,
    /// Longest pause within a body, in either direction, in milliseconds.
    pub idle_timeout_ms: NonZeroU64,
    /// How long an unused connection is kept, in milliseconds.
    pub keep_alive_ms: NonZeroU64,
    /// How many unused connections are kept per address.
    pub keep_connections: NonZeroUsize,
    /// Sockets.
    pub sockets: SocketSettings,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        let number = |value| NonZeroU64::new(value).expect("a literal that is not zero");
        Self {
            keys: vec![
                KeySource::Env("FAL_KEY".to_owned()),
                KeySource::EnvPair { id: "FAL_KEY_ID".to_owned(), secret: "FAL_KEY_SECRET".to_owned() },
            ],
            key_watch_s: number(5),
            key_replay_bytes: 1024 * 1024,
            addresses: Addresses::default(),
            allow_plain_loopback: false,
            ca_file: None,
            connect_timeout_ms: number(5_000),
            first_byte_timeout_ms: number(300_000),
            idle_timeout_ms: number(120_000),
            keep_alive_ms: number(60_000),
            keep_connections: NonZeroUsize::new(128).expect("a literal that is not zero"),
            sockets: SocketSettings::default(),
        }
    }
}

impl UpstreamSettings {
    /// What is wrong with the values, each with its key path inside `[upstream]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let named = [(HostClass::Run, "run"), (HostClass::Queue, "queue"), (HostClass::Rest, "rest")];
        let mut faults = Vec::new();
        for (class, name) in named {
            let address = self.addresses.of(class);
            if address.is_plain() && !(address.is_loopback() && self.allow_plain_loopback) {
                let why = "plain http would show the key: use https, or for this machine set allow_plain_loopback";
                faults.push((format!("addresses.{name}"), why.to_owned()));
            }
        }
        faults.extend(self.sockets.faults().into_iter().map(|(key, fault)| (format!("sockets.{key}"), fault)));
        faults
    }
}
