//! Who is calling: the application's own tokens, or a visitor without a name.

mod jwks;
mod jwt;
mod jwt_keys;
mod jwt_settings;

pub use jwks::{AskKeys, AskedKeys, KeysError};
pub use jwt::{JwtFault, JwtVerifier, Known};
pub use jwt_keys::JwtKeyFault;
pub use jwt_settings::{JwtAlgorithm, JwtKeySource, JwtSettings};
