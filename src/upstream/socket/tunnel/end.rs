//! How sockets end.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::wire::frame::{CloseReason, FrameFault};

/// Why a tunnel does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// A direction came to the place where it was asked to stop.
    Stopped,
    /// The client closed.
    ClientClosed(Option<CloseReason>),
    /// The client broke off.
    ClientLost,
    /// The client takes nothing.
    ClientStalled,
    /// The client breaks the rules.
    ClientFault(Breach),
    /// fal closed.
    UpstreamClosed(Option<CloseReason>),
    /// fal broke off.
    UpstreamLost,
    /// fal takes nothing.
    UpstreamStalled,
    /// fal breaks the rules.
    UpstreamFault(Breach),
    /// fal does not take the token or key that it was shown.
    Unauthorized,
    /// Nothing was said for too long.
    Idle,
    /// The socket is old.
    Old,
    /// The gate drains.
    Drained,
}

/// How a side breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    /// With a frame.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// With a close frame that says nothing sensible.
    #[error("a close frame is malformed")]
    Close,
}

impl Breach {
    pub(crate) const fn close_code(self) -> u16 {
        match self {
            Self::Frame(fault) => fault.close_code(),
            Self::Close => crate::wire::frame::close_code::PROTOCOL,
        }
    }
}

/// The same, as a word for metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EndWord {
    ClientClosed,
    ClientLost,
    ClientStalled,
    ClientFault,
    UpstreamClosed,
    UpstreamLost,
    UpstreamStalled,
    UpstreamFault,
    Unauthorized,
    Idle,
    Old,
    Drained,
}

impl EndWord {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ClientLost => "client_lost",
            Self::ClientStalled => "client_stalled",
            Self::ClientFault => "client_fault",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamLost => "upstream_lost",
            Self::UpstreamStalled => "upstream_stalled",
            Self::UpstreamFault => "upstream_fault",
            Self::Unauthorized => "unauthorized",
            Self::Idle => "idle",
            Self::Old => "old",
            Self::Drained => "drained",
        }
    }
}

impl EncodeLabelValue for EndWord {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.as_str().encode(encoder)
    }
}

impl End {
    pub(crate) const fn word(&self) -> EndWord {
        match self {
            Self::ClientClosed(_) => EndWord::ClientClosed,
            Self::ClientLost => EndWord::ClientLost,
            Self::ClientStalled => EndWord::ClientStalled,
            Self::ClientFault(_) => EndWord::ClientFault,
            Self::UpstreamClosed(_) => EndWord::UpstreamClosed,
            Self::UpstreamLost => EndWord::UpstreamLost,
            Self::UpstreamStalled => EndWord::UpstreamStalled,
            Self::UpstreamFault(_) => EndWord::UpstreamFault,
            Self::Unauthorized => EndWord::Unauthorized,
            Self::Idle => EndWord::Idle,
            Self::Old => EndWord::Old,
            Self::Stopped | Self::Drained => EndWord::Drained,
        }
    }
}
