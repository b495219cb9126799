//! How sockets end, and what is said then.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use super::meter::Breach;
use super::settings::Farewell;
use crate::wire::frame::close_code;
use crate::wire::message::{Control, TIMEOUT};

/// Why a socket does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The page closed it.
    Closed,
    /// The page closed it without a code.
    ClosedPlainly,
    /// The page broke off.
    Lost,
    /// The page takes nothing of what it is sent.
    Stalled,
    /// The page does not answer pings.
    Dead,
    /// The page breaks the rules.
    Breach(Breach),
    /// No input for long.
    Idle,
    /// It lived as long as it may.
    Old,
    /// The gate drains.
    Drained,
    /// Something here failed.
    Failed,
}

/// The same, as a word for metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum EndWord {
    Closed,
    Lost,
    Stalled,
    Dead,
    Breach,
    Idle,
    Old,
    Drained,
    Failed,
}

impl EndWord {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Stalled => "stalled",
            Self::Dead => "dead",
            Self::Breach => "breach",
            Self::Idle => "idle",
            Self::Old => "old",
            Self::Drained => "drained",
            Self::Failed => "failed",
        }
    }
}

impl EncodeLabelValue for EndWord {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

impl End {
    pub(super) const fn word(self) -> EndWord {
        match self {
            Self::Closed | Self::ClosedPlainly => EndWord::Closed,
            Self::Lost => EndWord::Lost,
            Self::Stalled => EndWord::Stalled,
            Self::Dead => EndWord::Dead,
            Self::Breach(_) => EndWord::Breach,
            Self::Idle => EndWord::Idle,
            Self::Old => EndWord::Old,
            Self::Drained => EndWord::Drained,
            Self::Failed => EndWord::Failed,
        }
    }

    /// The last text and the close code; `None` where nobody listens or the page has closed already.
    pub(super) fn words(self, farewell: Farewell) -> Option<(Option<String>, u16)> {
        let quiet = Some((Some(TIMEOUT.to_owned()), close_code::NORMAL));
        match self {
            Self::Closed | Self::ClosedPlainly | Self::Lost | Self::Stalled | Self::Dead => None,
            Self::Idle | Self::Old => quiet,
            Self::Drained => match farewell {
                Farewell::Quiet => quiet,
                Farewell::GoingAway => Some((None, close_code::GOING_AWAY)),
            },
            Self::Breach(breach) => {
                let reason = breach.to_string();
                let error = Control::Error { error: breach.word(), reason: &reason, request_id: None, sequence: None };
                Some((Some(error.text()), breach.close_code()))
            }
            Self::Failed => Some((None, close_code::FAILED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_did_no_wrong_ends_without_a_word_to_the_user() {
        for end in [End::Idle, End::Old, End::Drained] {
            assert_eq!(end.words(Farewell::Quiet), Some((Some(TIMEOUT.to_owned()), 1000)), "{end:?}");
        }
        assert_eq!(End::Drained.words(Farewell::GoingAway), Some((None, 1001)));
        assert_eq!(End::Idle.words(Farewell::GoingAway).unwrap().1, 1000, "only a drain goes away");
    }

    #[test]
    fn abuse_is_told_what_it_was() {
        let (text, code) = End::Breach(Breach::Frames).words(Farewell::Quiet).unwrap();
        assert!(text.unwrap().contains("too many frames a second"));
        assert_eq!(code, 1008);
    }
}
