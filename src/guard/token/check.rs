//! What a token is shown for, and why it may not do.

use std::time::SystemTime;

/// What is asked with a token in hand.
#[derive(Debug, Clone, Copy)]
pub struct TokenUse<'a> {
    /// Alias of the app that is called.
    pub alias: &'a str,
    /// Origin of the page that calls, where it is one.
    pub origin: Option<&'a str>,
    /// The time.
    pub now: SystemTime,
}

/// Why a token opens nothing. It never shows the token.
///
/// Callers hear the same of all of these: a text frame that says `Unauthorized`, and a close (protocol spec 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenFault {
    /// It is no token of the form that this gate makes.
    #[error("token is malformed")]
    Malformed,
    /// It names a key that this gate does not have, or no longer believes.
    #[error("token is signed with a key that is not believed")]
    UnknownKey,
    /// Its signature is not its key's, or not of its key's algorithm.
    #[error("token is not signed by its key")]
    Signature,
    /// It was made for, or by, another gate.
    #[error("token is another gate's")]
    Foreign,
    /// Its time is over.
    #[error("token has expired")]
    Expired,
    /// It was minted later than now: the clocks of two gates differ.
    #[error("token was minted in the future")]
    FromTheFuture,
    /// It is for other apps.
    #[error("token is for other apps")]
    App,
    /// It is bound to another page.
    #[error("token is bound to another origin")]
    Origin,
    /// As many sockets are open with it as may be.
    #[error("token has {limit} sockets open, the most it may (guard.tokens.sockets_per_token)")]
    Seats {
        /// How many may be open.
        limit: u32,
    },
}
