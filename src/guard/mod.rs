//! Who may come in, how often, at what cost.

mod address;
mod keys;
mod origins;
mod settings;
mod token;

pub use address::{AddressHeader, AddressSettings, ClientAddr, ClientAddrLayer, FindClientAddr, PeerAddr};
pub use keys::{AccessKeys, AccessKeysLayer, AskForKey, Caller, KeyFault, KeyRefusal, KeySettings, Noted};
pub use origins::{OriginFault, OriginSettings, Origins, OriginsLayer, PageOrigin};
pub use settings::GuardSettings;
pub use token::{
    Grant, MintFault, Minted, TokenAlgorithm, TokenFault, TokenHolder, TokenKeyError, TokenKeyFault, TokenKeySource,
    TokenLifeSettings, TokenSeat, TokenService, TokenSettings, TokenUse, Tokens, judge as judge_token_keys,
    rotate as rotate_token_keys,
};
