//! What an operator may set about sockets to fal.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use serde::{Deserialize, Serialize};

use crate::wire::EndpointPattern;

/// How the gate shows fal who opens a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SocketAuth {
    /// With a short token for the one app, minted with the key.
    #[default]
    Token,
    /// With the key itself, as a header of the handshake.
    Key,
}

/// Sockets that a route gives to the upstream: relayed frame by frame, and held to these limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema), schemars(rename = "RelaySettings"))]
#[serde(deny_unknown_fields, default)]
pub struct SocketSettings {
    /// What fal is shown: `token` mints a token for the app, `key` sends the key in the handshake.
    pub auth: SocketAuth,
    /// Life of such a token, in seconds. It is used for new sockets until four fifths of it are over.
    pub token_life_s: NonZeroU32,
    /// Longest time to open fal's socket, token and all, in milliseconds.
    pub open_timeout_ms: NonZeroU64,
    /// Largest message of a client, in bytes. A larger one ends the socket with 1009.
    pub client_message_bytes: NonZeroU64,
    /// Largest message of fal's, in bytes.
    pub upstream_message_bytes: NonZeroU64,
    /// Frames of which one message may consist.
    pub fragments: NonZeroU32,
    /// Frames of a client that pass each second. A faster client is read more slowly.
    pub frames_per_s: NonZeroU32,
    /// Frames that a rested client may send at once.
    pub frames_burst: NonZeroU32,
    /// Bytes of a client that pass each second.
    pub bytes_per_s: NonZeroU64,
    /// Bytes that a rested client may send at once.
    pub bytes_burst: NonZeroU64,
    /// A socket on which no message passed for so long ends, in seconds. Pages reconnect when they need to.
    pub idle_s: NonZeroU64,
    /// Longest life of a socket, in seconds. Each lives up to a tenth less, so that they do not end all at once.
    pub life_s: NonZeroU64,
    /// Longest time in which a side takes nothing of what it is sent, in milliseconds. Then it counts as gone.
    pub write_stall_ms: NonZeroU64,
    /// When the gate drains, sockets end spread over so long, in milliseconds.
    pub drain_spread_ms: u64,
    /// Open fal's socket anew when it breaks off, and send the newest input again where it has no answer yet: at most three
    /// times until a result comes, each time for its price. The newest input of each socket is held for that.
    pub reconnect: bool,
    /// Memory for inputs that are held, over all sockets, in bytes: those under a policy until they are sent on, and the newest
    /// of a socket until its answer. Up to 4 KiB of each are not counted. Where it is full, inputs under a policy are refused,
    /// and others go on and are not sent again.
    pub held_bytes: NonZeroU64,
    /// Memory for bytes on their way, over all sockets, in bytes. Sockets beyond it are served in pieces of 4 KiB.
    pub buffer_bytes: NonZeroUsize,
    /// Endpoints each of whose results is a picture; they are counted.
    pub picture_endpoints: Vec<EndpointPattern>,
}

impl Default for SocketSettings {
    fn default() -> Self {
        let number = |value| NonZeroU64::new(value).expect("a literal that is not zero");
        let count = |value| NonZeroU32::new(value).expect("a literal that is not zero");
        let pattern = |text| EndpointPattern::parse(text).expect("a literal that is a pattern");
        Self {
            auth: SocketAuth::Token,
            token_life_s: count(120),
            open_timeout_ms: number(15_000),
            client_message_bytes: number(1024 * 1024),
            upstream_message_bytes: number(16 * 1024 * 1024),
            fragments: count(1024),
            frames_per_s: count(200),
            frames_burst: count(400),
            bytes_per_s: number(16 * 1024 * 1024),
            bytes_burst: number(16 * 1024 * 1024),
            idle_s: number(120),
            life_s: number(3600),
            write_stall_ms: number(30_000),
            drain_spread_ms: 2_000,
            reconnect: false,
            held_bytes: number(64 * 1024 * 1024),
            buffer_bytes: NonZeroUsize::new(32 * 1024 * 1024).expect("a literal that is not zero"),
            picture_endpoints: vec![
                pattern("fal-ai/lcm-sd15-i2i"),
                pattern("fal-ai/lcm"),
                pattern("fal-ai/fast-lcm-diffusion/**"),
                pattern("fal-ai/fast-turbo-diffusion/**"),
                pattern("fal-ai/sdxl-turbo-realtime"),
            ],
        }
    }
}

impl SocketSettings {
    /// What is wrong with the values, each with its key path inside `[upstream.sockets]`.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.bytes_burst < self.client_message_bytes {
            let why = format!("{} is less than one message may have ({})", self.bytes_burst, self.client_message_bytes);
            faults.push(("bytes_burst".to_owned(), why));
        }
        if self.held_bytes < self.client_message_bytes {
            let why = format!("{} is less than one message may have ({})", self.held_bytes, self.client_message_bytes);
            faults.push(("held_bytes".to_owned(), why));
        }
        let years = 10 * 365 * 24 * 3600;
        for (key, value) in [("idle_s", self.idle_s), ("life_s", self.life_s)] {
            if value.get() > years {
                faults.push((key.to_owned(), format!("{value} is more than {years}")));
            }
        }
        faults
    }
}
