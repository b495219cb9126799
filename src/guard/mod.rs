//! Who may come in, how often, at what cost.

mod address;
mod keys;
mod origins;
mod settings;

pub use address::{AddressHeader, AddressSettings, ClientAddr, ClientAddrLayer, FindClientAddr, PeerAddr};
pub use keys::{AccessKeys, AccessKeysLayer, AskForKey, Caller, KeyFault, KeyRefusal, KeySettings, Noted};
pub use origins::{OriginFault, OriginSettings, Origins, OriginsFuture, OriginsLayer};
pub use settings::GuardSettings;
