//! What callers are told of their limits: draft-ietf-httpapi-ratelimit-headers-11, or the older triple.

use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use super::cost::Dimension;
use super::settings::LimitHeaders;

/// What is left of quotas.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Which quotas there are.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Both in the form before drafts had lists.
pub(in crate::guard) const OLDER: [HeaderName; 3] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

/// The largest integer of a structured field (RFC 9651, section 3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// What never changes of a limit's quota.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: Arc<str>,
    pub(super) of: Dimension,
    /// Units that a rested share may spend.
    pub(super) most: u64,
    /// Seconds in which all of them come back, rounded up.
    pub(super) window_s: u64,
}

/// What is said of limits, as far as it does not change from call to call: written once, when the limits are read.
#[derive(Debug)]
pub(super) struct Words {
    form: LimitHeaders,
    limits: Vec<Word>,
    /// The policy of a call that all of them are about, as most calls are.
    all: HeaderValue,
}

/// What is said of one limit.
#[derive(Debug)]
struct Word {
    most: u64,
    /// Its item in the list of policies.
    policy: String,
    /// Its item in the list of states, up to the first number.
    state: String,
}

/// How one share of a limit stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    /// Index of the limit.
    pub(super) of: usize,
    /// Whole units left.
    pub(super) left: u64,
    /// Seconds until all are back, rounded up.
    pub(super) reset_s: u64,
}

/// What a caller is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Option<(Arc<Words>, Vec<Quota>)>);

impl Words {
    pub(super) fn new(form: LimitHeaders, policies: impl Iterator<Item = Policy>) -> Self {
        let word = |policy: Policy| {
            let Policy { name, of, most, window_s } = policy;
            let (most, window_s) = (most.min(LARGEST), window_s.min(LARGEST));
            let unit = of.quota_unit().map_or_else(String::new, |unit| format!(";qu=\"{unit}\""));
            Word { most, policy: format!("\"{name}\";q={most};w={window_s}{unit}"), state: format!("\"{name}\";r=") }
        };
        let limits: Vec<Word> = policies.map(word).collect();
        let all = value(limits.iter().map(|word| word.policy.as_str()).collect::<Vec<_>>().join(", "));
        Self { form, limits, all }
    }

    /// Whether callers are told nothing.
    pub(super) fn are_off(&self) -> bool {
        self.form == LimitHeaders::Off
    }

    fn policy(&self, quotas: &[Quota]) -> HeaderValue {
        // Each limit is in the list at most once, and in order.
        if quotas.len() == self.limits.len() {
            return self.all.clone();
        }
        value(quotas.iter().map(|quota| self.limits[quota.of].policy.as_str()).collect::<Vec<_>>().join(", "))
    }

    fn state(&self, quotas: &[Quota]) -> HeaderValue {
        /// Two numbers of fifteen digits, and what stands around them.
        const NUMBERS: usize = 36;
        let length = quotas.iter().map(|quota| self.limits[quota.of].state.len() + NUMBERS).sum();
        let mut text = String::with_capacity(length);
        let mut number = itoa::Buffer::new();
        for quota in quotas {
            if !text.is_empty() {
                text.push_str(", ");
            }
            text.push_str(&self.limits[quota.of].state);
            text.push_str(number.format(quota.left.min(LARGEST)));
            text.push_str(";t=");
            text.push_str(number.format(quota.reset_s.min(LARGEST)));
        }
        value(text)
    }
}

fn value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).expect("names are plain ASCII, by the settings' check")
}

impl Told {
    pub(super) fn new(words: &Arc<Words>, quotas: Vec<Quota>) -> Self {
        Self((!quotas.is_empty() && !words.are_off()).then(|| (Arc::clone(words), quotas)))
    }

    /// The header fields; none where there is nothing to tell.
    pub(super) fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let none = || [const { None }; 3];
        let fields = self.0.as_ref().map_or_else(none, |(words, quotas)| match words.form {
            LimitHeaders::Off => none(),
            LimitHeaders::Draft => {
                [Some((RATE_LIMIT_POLICY, words.policy(quotas))), Some((RATE_LIMIT, words.state(quotas))), None]
            }
            LimitHeaders::Older => older(words, quotas),
        });
        fields.into_iter().flatten()
    }
}

/// The quota of which the least is left, in three numbers.
fn older(words: &Words, quotas: &[Quota]) -> [Option<(HeaderName, HeaderValue)>; 3] {
    let tightest = quotas.iter().min_by_key(|quota| (quota.left, std::cmp::Reverse(quota.reset_s)));
    let numbers = tightest.map(|quota| [words.limits[quota.of].most, quota.left, quota.reset_s]);
    let [limit, remaining, reset] = OLDER;
    numbers.map_or([const { None }; 3], |[most, left, reset_s]| {
        [(limit, most), (remaining, left), (reset, reset_s)]
            .map(|(name, number)| Some((name, HeaderValue::from(number))))
    })
}

impl Dimension {
    /// The draft's word for the unit; requests need none.
    const fn quota_unit(self) -> Option<&'static str> {
        match self {
            Self::Requests => None,
            Self::Bytes => Some("content-bytes"),
            Self::Pictures => Some("pictures"),
            Self::Frames => Some("frames"),
            Self::GpuMs => Some("gpu-milliseconds"),
            Self::Cents => Some("cents"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, of: Dimension) -> Policy {
        Policy { name: name.into(), of, most: 10, window_s: 60 }
    }

    fn written(form: LimitHeaders, quotas: &[(usize, u64)]) -> Vec<String> {
        let policies = [policy("rps", Dimension::Requests), policy("day", Dimension::Pictures)];
        let words = Arc::new(Words::new(form, policies.into_iter()));
        let quotas = quotas.iter().map(|&(of, left)| Quota { of, left, reset_s: 42 }).collect();
        let told = Told::new(&words, quotas);
        told.fields().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_draft_is_two_lists_of_strings_with_parameters() {
        assert_eq!(
            written(LimitHeaders::Draft, &[(0, 7), (1, 0)]),
            [
                r#"ratelimit-policy: "rps";q=10;w=60, "day";q=10;w=60;qu="pictures""#,
                r#"ratelimit: "rps";r=7;t=42, "day";r=0;t=42"#,
            ]
        );
        assert_eq!(
            written(LimitHeaders::Draft, &[(1, u64::MAX)]),
            [
                r#"ratelimit-policy: "day";q=10;w=60;qu="pictures""#.to_owned(),
                r#"ratelimit: "day";r=999999999999999;t=42"#.to_owned(),
            ],
            "a caller is told of those that are about the call"
        );
    }

    #[test]
    fn the_older_triple_tells_of_the_tightest() {
        assert_eq!(
            written(LimitHeaders::Older, &[(0, 7), (1, 3)]),
            ["ratelimit-limit: 10", "ratelimit-remaining: 3", "ratelimit-reset: 42"]
        );
        assert!(written(LimitHeaders::Off, &[(0, 7)]).is_empty());
        assert!(written(LimitHeaders::Draft, &[]).is_empty());
    }
}
