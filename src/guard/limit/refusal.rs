//! Why a call or a frame may not be made now.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};

use super::cost::Dimension;
use super::headers::Told;
use super::settings::Lasting;
use crate::wire::{Problem, ToProblem};

/// Why a call or a frame may not be made now, and when it may.
#[derive(Debug, Clone, thiserror::Error)]
#[error("limit {rule}: {why}")]
pub struct Refusal {
    rule: Arc<str>,
    why: Why,
    wait: Duration,
    told: Told,
}

/// What a limit has against a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It comes too soon after others.
    #[error("too many {} in a short time", .of.as_str())]
    TooFast {
        /// What was counted.
        of: Dimension,
    },
    /// Too many others are under way.
    #[error("too many {} at once", .of.as_str())]
    AtOnce {
        /// What was counted.
        of: Lasting,
    },
    /// The budget of the period is used up.
    #[error("the budget of {} is used up", .of.as_str())]
    Spent {
        /// What was counted.
        of: Dimension,
    },
    /// It asks for more than the limit ever allows.
    #[error("more {} than this limit ever allows", .of.as_str())]
    Never {
        /// What was counted.
        of: Dimension,
    },
    /// Too many callers are being counted to count another.
    #[error("too many callers")]
    NoRoom,
    /// The store that several gates share does not answer.
    #[error("the store of limits does not answer")]
    NoStore,
}

impl Lasting {
    /// The word for it in sentences.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Sockets => "sockets",
        }
    }
}

impl Refusal {
    pub(super) fn new(rule: &Arc<str>, why: Why, wait: Duration) -> Self {
        Self { rule: Arc::clone(rule), why, wait, told: Told::default() }
    }

    /// The one of both that lets the caller wait longer; what is never allowed outlasts all.
    pub(super) fn longer(one: Option<Self>, other: Self) -> Self {
        match one {
            Some(one) if one.rank() >= other.rank() => one,
            _ => other,
        }
    }

    fn rank(&self) -> (bool, Duration) {
        (matches!(self.why, Why::Never { .. }), self.wait)
    }

    pub(super) fn with_told(mut self, told: Told) -> Self {
        self.told = told;
        self
    }

    /// The name of the limit, from the configuration.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// What it has against the call.
    #[must_use]
    pub const fn why(&self) -> Why {
        self.why
    }

    /// When the call could pass, if nobody else spends anything meanwhile; `None` for never.
    #[must_use]
    pub const fn wait(&self) -> Option<Duration> {
        match self.why {
            Why::Never { .. } => None,
            Why::TooFast { .. } | Why::AtOnce { .. } | Why::Spent { .. } | Why::NoRoom | Why::NoStore => {
                Some(self.wait)
            }
        }
    }
}

impl ToProblem for Refusal {
    fn to_problem(&self) -> Problem {
        let problem = match self.why {
            Why::TooFast { of } => Problem::rate_limited(
                format!("Rate limit exceeded: too many {} in a short time", of.as_str()),
                self.wait,
            ),
            Why::AtOnce { of } => {
                Problem::rate_limited(format!("Rate limit exceeded: too many {} at once", of.as_str()), self.wait)
            }
            Why::Spent { of } => Problem::rate_limited(
                format!("Rate limit exceeded: the budget of {} is used up", of.as_str()),
                self.wait,
            ),
            Why::NoRoom => Problem::rate_limited("Rate limit exceeded: too many callers", self.wait),
            Why::NoStore => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "limits cannot be checked now, try again")
                .with_header(RETRY_AFTER, HeaderValue::from(self.wait.as_secs().max(1))),
            // Waiting would not help, and fal's clients would try a 429 four times.
            Why::Never { of: Dimension::Bytes } => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than is ever allowed at once")
            }
            Why::Never { of } => {
                let sentence = format!("this call asks for more {} than is ever allowed at once", of.as_str());
                Problem::new(StatusCode::FORBIDDEN, sentence)
            }
        };
        self.told.fields().fold(problem, |problem, (name, value)| problem.with_header(name, value))
    }
}
