//! Who is calling: by the application's own token, by an access key, by its session, or as a visitor without a name.

mod ask;
mod caller;
mod callers;
mod credentials;
mod human;
mod human_service;
mod human_settings;
mod inquire;
mod jwks;
mod jwt;
mod jwt_keys;
mod jwt_settings;
mod layer;
mod metrics;
mod session;
mod session_settings;
mod settings;
mod visitor;
mod visitor_settings;

pub use ask::{Identity, IdentityBy};
pub use caller::Caller;
pub use callers::{CallerRefusal, CallerRules, CallersLayer, JudgeCallers, NamelessReach};
pub use human::{HumanCheck, HumanFault, HumanSecretFault};
pub use human_service::HumanService;
pub use human_settings::{HumanProvider, HumanSecret, HumanSettings};
pub use inquire::{Inquire, Inquiry};
pub use jwks::{AskKeys, AskedKeys, KeysError};
pub use jwt::{JwtFault, JwtVerifier, Known};
pub use jwt_keys::JwtKeyFault;
pub use jwt_settings::{JwtAlgorithm, JwtKeySource, JwtSettings};
pub use layer::{Identified, IdentityLayer};
pub use session::{SessionFault, SessionHolder, Sessions};
pub use session_settings::SessionSettings;
pub use settings::{CallerPolicy, IdentitySettings, IdentityWay};
pub use visitor::{CookieReach, HumanRule, Visit, Visitors};
pub use visitor_settings::VisitorSettings;
