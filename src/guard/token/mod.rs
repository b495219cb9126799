//! Tokens for sockets: short, for some apps, and checked without asking anybody.
//!
//! A page gets one where it may call at all ([`TokenService`]) and shows it in the URL of its socket, as fal's clients do
//! (protocol spec 6.1 and 9). A token is a JWT that this gate signed: whoever holds it may open sockets to the apps that it
//! names until it expires, from the page that it was made for where that is bound.

mod check;
mod claims;
mod key;
mod key_file;
mod keys;
mod metrics;
mod mint;
mod seats;
mod service;
mod settings;
mod tokens;

pub use check::{TokenFault, TokenUse};
pub use key::TokenKeyFault;
pub(in crate::guard) use key_file::open as open_token_keys;
pub use key_file::{TokenKeyError, judge, rotate};
pub(in crate::guard) use keys::TokenKeys;
pub use mint::{Grant, MintFault, Minted};
pub use seats::{TokenHolder, TokenSeat};
pub use service::TokenService;
pub use settings::{TokenAlgorithm, TokenKeySource, TokenLifeSettings, TokenSettings};
pub use tokens::Tokens;
