//! `[guard.tokens]`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Tokens that open sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// Where the signing keys are: `{ file = "…" }` is made on the first start, readable by its owner only, and read again
    /// when it changes; `{ env = "…" }` names a variable; `"memory"` is a key that ends with the process, and every token
    /// with it. Keys stand one a line, `<algorithm> <base64 of 32 bytes>`; the first one signs, the others are still
    /// believed until the `until=<unix seconds>` behind them.
    pub keys: TokenKeySource,
    /// How tokens are signed, `HS256` or `EdDSA`. The first key must be one for it.
    pub algorithm: TokenAlgorithm,
    /// This gate's name in its tokens. Gates that share keys believe each other's tokens unless their names differ.
    pub issuer: String,
    /// How long tokens hold. What a caller asks for is moved into these bounds, never refused.
    pub life: TokenLifeSettings,
    /// Clock difference that is forgiven, in seconds. fal's clients use a token up to its last second.
    pub leeway_s: u32,
    /// Bind a token to the page that asked for it: a socket of another origin is not let in with it. Tokens that a server
    /// asked for (no `Origin`) are bound to nothing.
    pub bind_origin: bool,
    /// Sockets that may be open with one token. A page that reloads holds two for a moment, and each of its canvases one.
    pub sockets_per_token: NonZeroU32,
    /// Let sockets in that show no token at all, as pages made for fal's first gateway do: to apps of the embedded engine
    /// only, on the hosts and paths of that gateway. Whoever reaches the gate can then draw on its engine.
    pub anonymous_sockets: bool,
}

impl Default for TokenSettings {
    fn default() -> Self {
        Self {
            keys: TokenKeySource::File(PathBuf::from("state/token-keys")),
            algorithm: TokenAlgorithm::Hs256,
            issuer: "falgate".to_owned(),
            life: TokenLifeSettings::default(),
            leeway_s: 5,
            bind_origin: false,
            sockets_per_token: NonZeroU32::new(16).expect("not zero"),
            anonymous_sockets: false,
        }
    }
}

/// Where signing keys are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenKeySource {
    /// A file, made where there is none.
    File(PathBuf),
    /// A variable of the environment.
    Env(String),
    /// Nowhere: a key that ends with the process.
    Memory,
}

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256: the key that signs also checks.
    #[serde(rename = "HS256")]
    Hs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl TokenAlgorithm {
    /// The name in a token's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// How long tokens hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TokenLifeSettings {
    /// The shortest, in seconds.
    pub least_s: NonZeroU32,
    /// The longest, in seconds. An open socket may outlive its token; what ends is the right to open another.
    pub most_s: NonZeroU32,
    /// Where a caller asks for no time, in seconds. fal's clients ask for 120.
    pub default_s: NonZeroU32,
}

impl Default for TokenLifeSettings {
    fn default() -> Self {
        let seconds = |seconds| NonZeroU32::new(seconds).expect("not zero");
        Self { least_s: seconds(10), most_s: seconds(600), default_s: seconds(120) }
    }
}

impl TokenLifeSettings {
    /// The life that is given to whoever asks for `wish`.
    pub(super) fn clamp(&self, wish: Option<Duration>) -> Duration {
        let seconds = |bound: NonZeroU32| Duration::from_secs(bound.get().into());
        let wish = wish.unwrap_or_else(|| seconds(self.default_s));
        wish.max(seconds(self.least_s)).min(seconds(self.most_s))
    }
}

/// Longest name of a gate in its tokens.
const ISSUER_BYTES: usize = 64;
/// Largest clock difference that may be forgiven: as long as the shortest of usual tokens.
const MOST_LEEWAY_S: u32 = 120;

impl TokenSettings {
    /// Every value that cannot work: key path inside the table, and why.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, why: String| faults.push((key.to_owned(), why));
        let life = &self.life;
        if life.least_s > life.most_s {
            fault("life.least_s", format!("{} is more than life.most_s, {}", life.least_s, life.most_s));
        }
        if !(life.least_s..=life.most_s).contains(&life.default_s) {
            fault("life.default_s", format!("{} is not between life.least_s and life.most_s", life.default_s));
        }
        if self.leeway_s > MOST_LEEWAY_S {
            fault("leeway_s", format!("{} is more than {MOST_LEEWAY_S}: such tokens would not end", self.leeway_s));
        }
        let plain = self.issuer.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte));
        if self.issuer.is_empty() || self.issuer.len() > ISSUER_BYTES || !plain {
            fault("issuer", format!("is not 1 to {ISSUER_BYTES} letters, digits and -._:/"));
        }
        match &self.keys {
            TokenKeySource::File(path) if path.as_os_str().is_empty() => fault("keys.file", "is empty".to_owned()),
            TokenKeySource::Env(name) if name.is_empty() => fault("keys.env", "is empty".to_owned()),
            TokenKeySource::File(_) | TokenKeySource::Env(_) | TokenKeySource::Memory => {}
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u32) -> NonZeroU32 {
        NonZeroU32::new(seconds).unwrap()
    }

    #[test]
    fn a_wish_is_moved_into_the_bounds() {
        let life = TokenLifeSettings { least_s: seconds(10), most_s: seconds(600), default_s: seconds(120) };
        let given = |wish: Option<u64>| life.clamp(wish.map(Duration::from_secs)).as_secs();
        assert_eq!([given(None), given(Some(60)), given(Some(1)), given(Some(u64::MAX))], [120, 60, 10, 600]);
    }

    #[test]
    fn bounds_that_contradict_each_other_are_named() {
        assert_eq!(TokenSettings::default().faults(), []);
        let life = TokenLifeSettings { least_s: seconds(601), ..TokenLifeSettings::default() };
        let settings = TokenSettings { life, leeway_s: 121, issuer: "a b".to_owned(), ..TokenSettings::default() };
        let keys: Vec<String> = settings.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["life.least_s", "life.default_s", "leeway_s", "issuer"]);
    }
}
