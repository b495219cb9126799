//! What inputs on relayed sockets cost their caller, as this room knows it: it asks, somebody above keeps count.

use std::time::Duration;

use http::Request;

use crate::wire::Body;

/// Keeps count of what callers send over relayed sockets.
pub trait InputBudget: std::fmt::Debug + Send + Sync {
    /// What the inputs of one socket are charged to; `None` where nobody counts them, which costs the socket nothing.
    /// `handshake` says who opens it and what; `each` says what is known of its inputs.
    fn account(&self, handshake: &Request<Body>, each: EachInput) -> Option<Box<dyn InputAccount>>;
}

/// What an input of an app is expected to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EachInput {
    /// A picture.
    Picture,
    /// Nobody knows.
    Unknown,
}

/// The account of one socket. It is asked with the header of each frame, before a byte of it goes on.
pub trait InputAccount: std::fmt::Debug + Send + Sync {
    /// Takes what an input costs whose first frame has a payload of so many bytes.
    ///
    /// # Errors
    /// When to ask again; then nothing was taken, and nothing of the input goes on.
    fn begin(&mut self, bytes: u64) -> Result<(), Duration>;

    /// Another part of the input comes. Its beginning has gone on and cannot be called back, so its bytes may become a debt.
    fn go_on(&mut self, bytes: u64);

    /// fal's socket broke off, so that nothing that went on has an answer any more. The newest input, of so many bytes, goes on
    /// once more: takes what it costs.
    ///
    /// # Errors
    /// As [`InputAccount::begin`].
    fn begin_again(&mut self, bytes: u64) -> Result<(), Duration>;

    /// The input that came last was refused by a rule: it makes nothing.
    fn unsent(&mut self);

    /// So many more results have come.
    fn results(&mut self, count: u64);

    /// So many inputs were answered with an error.
    fn failures(&mut self, count: u64);
}
