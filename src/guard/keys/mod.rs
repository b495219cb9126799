//! Access keys: what servers show to be known.
//!
//! A list holds keys as they are, or only their SHA-256. A plain hash is enough, and a slow one would be a way to keep the
//! gate busy: a key of 256 random bits cannot be guessed from its hash, unlike a password.

mod line;
mod list;
mod new_key;
mod open;
mod refusal;
mod settings;

pub use line::KeyFault;
pub use list::{AccessKeys, KeyHolder};
pub use new_key::NewKey;
pub use open::KeysUnusable;
pub use refusal::KeyRefusal;
pub use settings::KeySettings;
