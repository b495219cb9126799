//! Who may come in, how often, at what cost.

mod address;
mod identity;
mod keys;
mod limit;
mod origins;
mod settings;
mod token;

pub use address::{AddressHeader, AddressSettings, ClientAddr, ClientAddrLayer, FindClientAddr, PeerAddr};
pub use identity::{
    AskKeys, AskedKeys, Caller, CallerPolicy, CallerRefusal, CallerRules, CallersLayer, CookieReach, HumanCheck,
    HumanFault, HumanProvider, HumanRule, HumanSecret, HumanSecretFault, HumanService, HumanSettings, Identified,
    Identity, IdentityBy, IdentityLayer, IdentitySettings, IdentityWay, Inquire, Inquiry, JudgeCallers, JwtAlgorithm,
    JwtFault, JwtKeyFault, JwtKeySource, JwtSettings, JwtVerifier, KeysError, Known, NamelessReach, SessionFault,
    SessionHolder, SessionSettings, Sessions, Visit, VisitorSettings, Visitors,
};
pub use keys::{AccessKeys, KeyFault, KeyHolder, KeyRefusal, KeySettings, KeysUnusable, NewKey};
pub use limit::{
    ANONYMOUS_TIER, AtOnceSettings, BudgetSettings, CallerUsage, Cost, CostSettings, Dimension, Lasting, LeaseSettings,
    LedgerError, LimitError, LimitHeaders, LimitKind, LimitLayer, LimitSettings, LimitStore, LimitUsage, Limited,
    Limits, Pace, Period, Prices, RATE_LIMIT, RATE_LIMIT_POLICY, Receipt, RedisSettings, RedisStore, Refusal,
    RuleSettings, ShareBy, ShareStanding, SpentUsage, Standing, Subject, Tier, TopUsage, Usage, Verdict,
    WhenStoreIsDown, Why, real_cost, subject_of,
};
pub use origins::{OriginFault, OriginSettings, Origins, OriginsFuture, OriginsLayer, PageOrigin};
pub use settings::GuardSettings;
pub use token::{
    Grant, MintFault, Minted, TokenAlgorithm, TokenFault, TokenHolder, TokenKeyError, TokenKeyFault, TokenKeySource,
    TokenLifeSettings, TokenSeat, TokenService, TokenSettings, TokenUse, Tokens, judge as judge_token_keys,
    rotate as rotate_token_keys,
};
