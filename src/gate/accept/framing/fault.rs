//! What can be wrong with a request head, and what the client hears of it.

use http::StatusCode;

use crate::gate::accept::framing::METHODS;
use crate::wire::{Problem, ToProblem};

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HeadFault {
    /// A line feed without a carriage return, or a carriage return without a line feed.
    #[error("line does not end in CR LF")]
    LineEnd,
    /// Not `METHOD SP target SP HTTP/1.1`.
    #[error("request line is malformed")]
    RequestLine,
    /// A method that is not served by anything here: `TRACE`, `CONNECT`, `PURGE` and the like.
    #[error("method is not taken")]
    Method,
    /// The target is not a path: absolute form, authority form, or a byte that no URL may hold.
    #[error("request target is not a plain path")]
    Target,
    /// The target is longer than the limit.
    #[error("request target is too long")]
    TargetTooLong,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("HTTP version is not taken")]
    Version,
    /// A field name is empty, holds a byte that no name may hold, or has a space before its colon.
    #[error("field name is malformed")]
    FieldName,
    /// A field value holds a control byte.
    #[error("field value holds a control byte")]
    FieldValue,
    /// A field goes on in a second line (obs-fold).
    #[error("field is folded over two lines")]
    Folded,
    /// No `Host`, two of them, or one that is no host.
    #[error("exactly one valid host field is needed")]
    Host,
    /// `Content-Length` twice, or one that is no plain number.
    #[error("content-length is not one plain number")]
    ContentLength,
    /// `Transfer-Encoding` that is not exactly `chunked`, or on HTTP/1.0.
    #[error("transfer-encoding is not exactly chunked")]
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` in one head.
    #[error("content-length beside transfer-encoding")]
    TwoLengths,
    /// `Upgrade` to anything but `websocket`, with a body, or not a whole handshake.
    #[error("upgrade is not a websocket handshake")]
    Upgrade,
    /// `Expect` that is not `100-continue`.
    #[error("expectation is not taken")]
    Expectation,
    /// The head is larger than the limit.
    #[error("request head is too large")]
    HeadTooLarge,
    /// More fields than the limit.
    #[error("request head has too many fields")]
    TooManyFields,
    /// The head did not arrive whole within its deadline.
    #[error("request head came too slowly")]
    Slow,
    /// A word that falgate does not know in a header that only falgate writes.
    #[error("request is malformed")]
    Other,
}

impl HeadFault {
    /// Every fault.
    pub const ALL: [Self; 19] = [
        Self::LineEnd,
        Self::RequestLine,
        Self::Method,
        Self::Target,
        Self::TargetTooLong,
        Self::Version,
        Self::FieldName,
        Self::FieldValue,
        Self::Folded,
        Self::Host,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::TwoLengths,
        Self::Upgrade,
        Self::Expectation,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::Slow,
        Self::Other,
    ];

    /// The word that stands for the fault between the connection and the first service.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::LineEnd => "line-end",
            Self::RequestLine => "request-line",
            Self::Method => "method",
            Self::Target => "target",
            Self::TargetTooLong => "target-too-long",
            Self::Version => "version",
            Self::FieldName => "field-name",
            Self::FieldValue => "field-value",
            Self::Folded => "folded",
            Self::Host => "host",
            Self::ContentLength => "content-length",
            Self::TransferEncoding => "transfer-encoding",
            Self::TwoLengths => "two-lengths",
            Self::Upgrade => "upgrade",
            Self::Expectation => "expectation",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::Slow => "slow",
            Self::Other => "other",
        }
    }

    /// Reads the word back; anything unknown is [`HeadFault::Other`].
    #[must_use]
    pub fn from_word(word: &[u8]) -> Self {
        Self::ALL.into_iter().find(|fault| fault.word().as_bytes() == word).unwrap_or(Self::Other)
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::LineEnd
            | Self::RequestLine
            | Self::Target
            | Self::FieldName
            | Self::FieldValue
            | Self::Folded
            | Self::Host
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::TwoLengths
            | Self::Upgrade
            | Self::Other => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl ToProblem for HeadFault {
    fn to_problem(&self) -> Problem {
        match self {
            Self::Method => Problem::method_not_allowed(METHODS),
            other => Problem::new(other.status(), other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_word_of_its_own() {
        for fault in HeadFault::ALL {
            assert_eq!(HeadFault::from_word(fault.word().as_bytes()), fault);
        }
        assert_eq!(HeadFault::from_word(b"made up"), HeadFault::Other);
    }

    #[test]
    fn a_refused_method_names_the_ones_that_are_taken() {
        let problem = HeadFault::Method.to_problem();
        assert_eq!(problem.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(problem.message().contains("POST"));
    }
}
