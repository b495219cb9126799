//! What a connection may cost, and how it is opened and ended.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::framing::HeadLimits;

const fn size(value: usize) -> NonZeroUsize {
    NonZeroUsize::new(value).expect("defaults are not zero")
}

const fn number(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).expect("defaults are not zero")
}

const fn count(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).expect("defaults are not zero")
}

/// Limits on connections, request heads and slowness.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Connections that may be open at once. One more is answered 503 and closed.
    pub connections: NonZeroUsize,
    /// Connections that one address (one /64 of IPv6) may have open at once; trusted proxies are exempt. One more is
    /// answered 429 and closed.
    pub connections_per_address: NonZeroUsize,
    /// Connections waiting for the process to accept them.
    pub backlog: NonZeroU32,
    /// Time for a TLS handshake, and before it for the header of the PROXY protocol, in milliseconds.
    pub handshake_ms: NonZeroU64,
    /// Time for a whole request head, from its first byte (on a new connection from the start), in milliseconds.
    pub head_ms: NonZeroU64,
    /// Size of a request head, in bytes. More is answered 431.
    pub head_bytes: NonZeroUsize,
    /// Size of a request target, in bytes. More is answered 414.
    pub target_bytes: NonZeroUsize,
    /// Fields in a request head. More are answered 431.
    pub head_fields: NonZeroUsize,
    /// Time between two requests of a connection, in milliseconds.
    pub idle_ms: NonZeroU64,
    /// After so long without a request a connection gives back its buffers, in milliseconds.
    pub park_ms: NonZeroU64,
    /// Time without a byte of an awaited request body, in milliseconds.
    pub body_idle_ms: NonZeroU64,
    /// Time in which a reader that was sent something takes not one byte, in milliseconds.
    pub write_idle_ms: NonZeroU64,
    /// Pace that a sender or reader must keep on average, in bytes per second of waiting. 0 switches this off.
    pub least_bytes_per_s: u64,
    /// Waiting that is forgiven before the pace counts, in milliseconds.
    pub pace_grace_ms: NonZeroU64,
    /// Age at which a connection is asked to end after the request in hand, in seconds. 0 switches this off.
    pub age_s: u64,
    /// HTTP/2 on plain TCP for clients that start with its preface.
    pub http2_plain: bool,
    /// Requests in flight on one HTTP/2 connection.
    pub http2_streams: NonZeroU32,
    /// Window of one HTTP/2 request body, in bytes.
    pub http2_stream_window_bytes: NonZeroU32,
    /// Window of one HTTP/2 connection, in bytes.
    pub http2_window_bytes: NonZeroU32,
    /// Time between HTTP/2 pings to a quiet client, in milliseconds; it has as long to answer.
    pub http2_ping_ms: NonZeroU64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            connections: size(8192),
            connections_per_address: size(256),
            backlog: count(1024),
            handshake_ms: number(10_000),
            head_ms: number(10_000),
            head_bytes: size(32 * 1024),
            target_bytes: size(8 * 1024),
            head_fields: size(100),
            idle_ms: number(75_000),
            park_ms: number(500),
            body_idle_ms: number(30_000),
            write_idle_ms: number(30_000),
            least_bytes_per_s: 512,
            pace_grace_ms: number(15_000),
            age_s: 0,
            http2_plain: true,
            http2_streams: count(100),
            http2_stream_window_bytes: count(64 * 1024),
            http2_window_bytes: count(1024 * 1024),
            http2_ping_ms: number(30_000),
        }
    }
}

impl LimitSettings {
    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: String| faults.push((key.to_owned(), why));
        let head = self.head_bytes.get();
        if !(1024..=1024 * 1024).contains(&head) {
            fault("head_bytes", format!("{head} is not between 1024 and 1048576"));
        }
        let target = self.target_bytes.get();
        if target >= head || target > 60_000 {
            fault("target_bytes", format!("{target} is not below head_bytes ({head}) and 60000"));
        }
        if self.head_fields.get() > 1000 {
            fault("head_fields", format!("{} is more than 1000", self.head_fields));
        }
        if self.park_ms > self.idle_ms {
            fault("park_ms", format!("{} is more than idle_ms ({})", self.park_ms, self.idle_ms));
        }
        for (key, window) in [
            ("http2_stream_window_bytes", self.http2_stream_window_bytes),
            ("http2_window_bytes", self.http2_window_bytes),
        ] {
            if window.get() > i32::MAX.unsigned_abs() {
                fault(key, format!("{window} is more than {}", i32::MAX));
            }
        }
        faults
    }

    pub(super) fn head(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.head_bytes.get(),
            target_bytes: self.target_bytes.get(),
            fields: self.head_fields.get(),
        }
    }

    pub(super) fn age(&self) -> Option<Duration> {
        (self.age_s > 0).then(|| Duration::from_secs(self.age_s))
    }
}

/// Milliseconds of a setting as a duration.
pub(super) const fn ms(value: NonZeroU64) -> Duration {
    Duration::from_millis(value.get())
}

/// Whether connections begin with a header of the PROXY protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None does.
    #[default]
    Off,
    /// Each does, of version 1 or 2, and comes from a trusted proxy; others are closed.
    Required,
}

/// Certificate and key, as PEM files. Both are read again on reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// File with the certificate and its chain.
    pub cert_file: PathBuf,
    /// File with the private key.
    pub key_file: PathBuf,
}

/// How the gate ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DrainSettings {
    /// Time for requests in flight to finish once the gate is asked to stop, in milliseconds. What is left is cut.
    pub deadline_ms: NonZeroU64,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self { deadline_ms: number(30_000) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_fault() {
        assert_eq!(LimitSettings::default().faults(), []);
    }

    #[test]
    fn every_value_that_cannot_work_is_named() {
        let settings = LimitSettings {
            head_bytes: size(10),
            head_fields: size(5000),
            park_ms: number(80_000),
            http2_window_bytes: count(u32::MAX),
            ..LimitSettings::default()
        };
        let keys: Vec<String> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["head_bytes", "target_bytes", "head_fields", "park_ms", "http2_window_bytes"]);
    }
}
