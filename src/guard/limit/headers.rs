//! What callers are told of their limits: draft-ietf-httpapi-ratelimit-headers-11, or the older triple.

use std::fmt::Write as _;
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

/// How one share of a limit stands.
#[derive(Debug, Clone)]
pub(super) struct Quota {
    pub(super) name: Arc<str>,
    pub(super) of: Dimension,
    /// Units that a rested share may spend.
    pub(super) most: u64,
    /// Seconds in which all of them come back, rounded up.
    pub(super) window_s: u64,
    /// Whole units left.
    pub(super) left: u64,
    /// Seconds until all are back, rounded up.
    pub(super) reset_s: u64,
}

/// What a caller is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    form: Option<LimitHeaders>,
    quotas: Vec<Quota>,
}

impl Told {
    pub(super) const fn new(form: LimitHeaders, quotas: Vec<Quota>) -> Self {
        Self { form: Some(form), quotas }
    }

    /// The header fields; none where there is nothing to tell.
    pub(super) fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        if self.quotas.is_empty() {
            return Vec::new();
        }
        match self.form {
            None | Some(LimitHeaders::Off) => Vec::new(),
            Some(LimitHeaders::Draft) => self.draft(),
            Some(LimitHeaders::Older) => self.older(),
        }
    }

    fn draft(&self) -> Vec<(HeaderName, HeaderValue)> {
        let (mut policy, mut state) = (String::new(), String::new());
        for quota in &self.quotas {
            let comma = if policy.is_empty() { "" } else { ", " };
            let _ = write!(policy, "{comma}\"{}\";q={};w={}", quota.name, quota.most, quota.window_s);
            if let Some(unit) = quota.of.quota_unit() {
                let _ = write!(policy, ";qu=\"{unit}\"");
            }
            let _ = write!(state, "{comma}\"{}\";r={};t={}", quota.name, quota.left, quota.reset_s);
        }
        let value = |text: String| HeaderValue::try_from(text).expect("names are plain ASCII, by the settings' check");
        vec![(RATE_LIMIT_POLICY, value(policy)), (RATE_LIMIT, value(state))]
    }

    /// The quota of which the least is left, in three numbers.
    fn older(&self) -> Vec<(HeaderName, HeaderValue)> {
        let tightest = self.quotas.iter().min_by_key(|quota| (quota.left, std::cmp::Reverse(quota.reset_s)));
        let Some(quota) = tightest else { return Vec::new() };
        OLDER.into_iter().zip([quota.most, quota.left, quota.reset_s].map(HeaderValue::from)).collect()
    }
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

    fn quota(name: &str, of: Dimension, left: u64) -> Quota {
        Quota { name: name.into(), of, most: 10, window_s: 60, left, reset_s: 42 }
    }

    fn written(form: LimitHeaders, quotas: Vec<Quota>) -> Vec<String> {
        let fields = Told::new(form, quotas).fields();
        fields.into_iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn the_draft_is_two_lists_of_strings_with_parameters() {
        let quotas = vec![quota("rps", Dimension::Requests, 7), quota("day", Dimension::Pictures, 0)];
        assert_eq!(
            written(LimitHeaders::Draft, quotas),
            [
                r#"ratelimit-policy: "rps";q=10;w=60, "day";q=10;w=60;qu="pictures""#,
                r#"ratelimit: "rps";r=7;t=42, "day";r=0;t=42"#,
            ]
        );
    }

    #[test]
    fn the_older_triple_tells_of_the_tightest() {
        let quotas = vec![quota("rps", Dimension::Requests, 7), quota("day", Dimension::Pictures, 3)];
        assert_eq!(
            written(LimitHeaders::Older, quotas),
            ["ratelimit-limit: 10", "ratelimit-remaining: 3", "ratelimit-reset: 42"]
        );
        assert!(written(LimitHeaders::Off, vec![quota("rps", Dimension::Requests, 7)]).is_empty());
        assert!(written(LimitHeaders::Draft, Vec::new()).is_empty());
    }
}
