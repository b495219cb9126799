//! Fetches pictures that callers name by URL, without letting callers reach what only this machine can reach.

mod address;
mod client;
mod dial;
mod error;
mod resolve;
mod settings;
mod url;

pub use address::is_public;
pub use client::Fetcher;
pub use error::{FetchError, FetchSetupError};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use settings::FetchSettings;
pub use url::{FetchUrl, shown};
