//! Why a measurement has no number, or not the one that was asked for.

use std::io;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The system said no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The text names no socket of this machine.
    #[error("`{0}` is no ws:// or http:// URL with an address and port of this machine")]
    Place(String),
    /// The handshake was answered with something else than 101.
    #[error("the handshake was answered `{0}`")]
    Handshake(String),
    /// The other side closed.
    #[error("the socket was closed ({code:?} {reason})")]
    Closed {
        /// The close code, if a close frame came.
        code: Option<u16>,
        /// The reason given with it.
        reason: String,
    },
    /// A frame that no server may send.
    #[error("bad frame: {0}")]
    Frame(&'static str),
    /// A message that is not what the task waits for.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// It took too long.
    #[error("waited too long for {0}")]
    Late(&'static str),
    /// A configuration, a process or a metric is not usable.
    #[error("{0}")]
    Setup(String),
    /// The numbers are there, and are not good enough.
    #[error("missed: {0}")]
    Missed(String),
}

impl LoadError {
    /// `Ok` unless something was missed.
    pub(crate) fn unless_missed(missed: &[String]) -> Result<(), Self> {
        if missed.is_empty() { Ok(()) } else { Err(Self::Missed(missed.join("; "))) }
    }
}
