//! Limits of fetching.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How pictures are fetched from the URLs that callers name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct FetchSettings {
    /// Fetch http(s) URLs at all. Off, only data URIs and files of this gate are taken.
    pub enabled: bool,
    /// Largest file, in bytes.
    pub max_bytes: NonZeroU64,
    /// Time for everything, from the first look-up to the last byte, in milliseconds.
    pub timeout_ms: NonZeroU64,
    /// Redirects that are followed. Each one is checked like the first URL.
    pub max_redirects: u8,
    /// Ports that may be dialled.
    pub ports: Vec<u16>,
    /// Networks that may be dialled although they are private, as CIDRs: "10.1.0.0/16". Everything public is allowed anyway.
    #[cfg_attr(feature = "server", schemars(with = "Vec<String>"))]
    pub allow_networks: Vec<IpNet>,
    /// Fetches at the same time. More are refused with 429.
    pub at_once: NonZeroUsize,
    /// PEM file with certificate authorities that are trusted beside the web's own.
    pub ca_file: Option<PathBuf>,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_bytes: NonZeroU64::new(50 * 1024 * 1024).expect("not zero"),
            timeout_ms: NonZeroU64::new(30_000).expect("not zero"),
            max_redirects: 5,
            ports: vec![80, 443],
            allow_networks: Vec::new(),
            at_once: NonZeroUsize::new(16).expect("not zero"),
            ca_file: None,
        }
    }
}

impl FetchSettings {
    /// What is wrong with the values, each with its key inside this table.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.enabled && self.ports.is_empty() {
            faults.push(("ports".to_owned(), "is empty: name a port, or set enabled = false".to_owned()));
        }
        if self.ports.contains(&0) {
            faults.push(("ports".to_owned(), "0 is no port".to_owned()));
        }
        faults
    }
}
