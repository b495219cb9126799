//! Safety checks (protocol spec 11.1): what is asked for, what the model has, and what becomes of the difference.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::HostError;
use crate::engine::{ModelFacts, SafetyCheck};
use crate::wire::LcmInput;

/// What an answer is served with although something that was asked for is missing.
const WARNING: HeaderName = HeaderName::from_static("x-falgate-warning");
/// What is missing, in the header and on sockets.
const MISSING: &str = "safety-checker-missing";

/// What becomes of requests that ask for safety checks while the model has no safety checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WithoutChecker {
    /// They are served unchecked, and told so.
    #[default]
    Warn,
    /// They are answered 422.
    Refuse,
}

/// How a request's pictures are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Safety {
    /// Nobody asked for a check.
    Unasked,
    /// They are checked.
    Checked,
    /// A check was asked for, and there is no checker.
    Missing,
}

impl Safety {
    /// What `input` gets from a model.
    ///
    /// # Errors
    /// [`HostError::NoSafetyChecker`] where it asks for what is missing and `without` says so.
    pub(super) const fn of(input: &LcmInput, facts: &ModelFacts, without: WithoutChecker) -> Result<Self, HostError> {
        match (input.enable_safety_checks, facts.safety_checker, without) {
            (false, _, _) => Ok(Self::Unasked),
            (true, true, _) => Ok(Self::Checked),
            (true, false, WithoutChecker::Warn) => Ok(Self::Missing),
            (true, false, WithoutChecker::Refuse) => Err(HostError::NoSafetyChecker),
        }
    }

    /// What the engine is asked for.
    pub(super) const fn job(self) -> SafetyCheck {
        match self {
            Self::Checked => SafetyCheck::Wanted,
            Self::Unasked | Self::Missing => SafetyCheck::Skipped,
        }
    }

    /// What an answer lacks, in a word.
    pub(super) fn warning(self) -> Option<&'static str> {
        (self == Self::Missing).then_some(MISSING)
    }

    /// Says in an answer's head what it lacks.
    pub(super) fn warn(self, headers: &mut HeaderMap) {
        if let Some(missing) = self.warning() {
            headers.insert(WARNING, HeaderValue::from_static(missing));
        }
    }
}
