//! Who may come in, how often, at what cost.

mod address;
mod keys;
mod origins;
mod settings;
mod token;

pub use address::{AddressHeader, AddressSettings, ClientAddr, ClientAddrLayer, FindClientAddr, PeerAddr};
pub use keys::{AccessKeys, AccessKeysLayer, AskForKey, Caller, KeyFault, KeyRefusal, KeySettings, Noted};
pub use origins::{OriginFault, OriginSettings, Origins, OriginsLayer};
pub use settings::GuardSettings;
pub use token::{
    Grant, MintFault, Minted, TokenAlgorithm, TokenFault, TokenHolder, TokenKeyError, TokenKeyFault, TokenKeySource,
    TokenLifeSettings, TokenSeat, TokenSettings, TokenUse, Tokens, rotate,
};
