//! Opens the ways to find out who calls, and says who may.

use std::sync::Arc;

use super::RouteTable;
use super::inquirer::{Inquirer, InquirerError};
use crate::config::Config;
use crate::guard::{
    AccessKeys, CallerPolicy, CallerRules, CookieReach, HumanCheck, HumanRule, HumanSecretFault, HumanService,
    Identity, IdentityBy, IdentityWay, JwtVerifier, KeysError, KeysUnusable, Sessions, TokenKeyError, TokenSettings,
    Visitors, judge_token_keys,
};

/// Why it cannot be found out who calls.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The access keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysUnusable),
    /// There is nothing to check the application's tokens with.
    #[error("the application's tokens cannot be checked (guard.jwt)")]
    Jwt(#[from] KeysError),
    /// The keys of visitors' cookies cannot be used.
    #[error("the keys of visitors' cookies cannot be used (guard.visitors.keys)")]
    Visitors(#[from] TokenKeyError),
    /// There is nothing to check for people with.
    #[error("nobody can be checked for being a person (guard.human)")]
    Human(#[from] HumanSecretFault),
    /// Nobody can be asked.
    #[error("questions cannot be sent")]
    Inquirer(#[from] InquirerError),
}

/// The ways to find out who calls, open.
pub(super) struct OpenIdentity {
    pub(super) identity: Identity,
    pub(super) keys: Option<AccessKeys>,
    pub(super) human: Option<HumanService>,
}

type LookUp<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Opens every way that has settings. Whatever cannot be opened stops the start: nobody is let in, or kept out, by a check
/// that is not there.
pub(super) async fn open(config: &Config, look_up: LookUp<'_>) -> Result<OpenIdentity, IdentityError> {
    let guard = &config.guard;
    let inquirer = Arc::new(Inquirer::new(guard.identity.ca_file.as_deref())?);
    let keys = AccessKeys::open(&guard.keys, look_up)?;
    let jwt = open_jwt(config, look_up, &inquirer).await?;
    let human = guard.human.clone().map(|human| HumanCheck::open(human, look_up, inquirer.clone())).transpose()?;
    let rules = (cookie_reach(config), human_rule(config));
    let visitors = guard.visitors.enabled.then(|| Visitors::open(&guard.visitors, look_up, rules)).transpose()?;
    let session = guard.session.clone().map(|session| Sessions::new(session, inquirer));
    let ways = guard.identity.order.iter().filter_map(|way| match way {
        IdentityWay::Jwt => jwt.clone().map(IdentityBy::Jwt),
        IdentityWay::Keys => keys.clone().map(IdentityBy::Keys),
        IdentityWay::Session => session.clone().map(IdentityBy::Session),
        IdentityWay::Visitor => visitors.clone().map(IdentityBy::Visitor),
    });
    let identity = Identity::new(ways.collect());
    let human = human.zip(visitors).map(|(human, visitors)| HumanService::new(human, visitors));
    Ok(OpenIdentity { identity, keys, human })
}

/// Opens what [`open`] opens, makes no file, and says all that fails.
pub(super) async fn rehearse(config: &Config, look_up: LookUp<'_>) -> Vec<IdentityError> {
    let guard = &config.guard;
    let inquirer = match Inquirer::new(guard.identity.ca_file.as_deref()) {
        Ok(inquirer) => Arc::new(inquirer),
        Err(error) => return vec![error.into()],
    };
    let human = guard.human.clone().map(|human| HumanCheck::open(human, look_up, inquirer.clone()));
    let visitors = TokenSettings { keys: guard.visitors.keys.clone(), ..TokenSettings::default() };
    let visitors = guard.visitors.enabled.then(|| judge_token_keys(&visitors, look_up));
    [
        AccessKeys::open(&guard.keys, look_up).err().map(IdentityError::from),
        open_jwt(config, look_up, &inquirer).await.err().map(IdentityError::from),
        human.and_then(Result::err).map(IdentityError::from),
        visitors.and_then(Result::err).map(IdentityError::from),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn open_jwt(
    config: &Config,
    look_up: LookUp<'_>,
    inquirer: &Arc<Inquirer>,
) -> Result<Option<JwtVerifier>, KeysError> {
    match &config.guard.jwt {
        Some(settings) => JwtVerifier::open(settings.clone(), look_up, inquirer.clone()).await.map(Some),
        None => Ok(None),
    }
}

fn human_rule(config: &Config) -> HumanRule {
    if config.guard.human.is_some() { HumanRule::Checked } else { HumanRule::Anyone }
}

/// Browsers send a cookie back over TLS only, where they come over TLS.
fn cookie_reach(config: &Config) -> CookieReach {
    let public = config.gate.public_url.as_ref().map(|url| url.starts_with("https://"));
    if public.unwrap_or(config.gate.tls.is_some()) { CookieReach::Secure } else { CookieReach::Any }
}

/// Who may call where.
pub(super) struct Rules {
    /// At the gate's own fal-shaped paths.
    pub(super) direct: Arc<CallerRules>,
    /// At the key proxy, and with tokens for sockets, which come from there.
    pub(super) proxied: Arc<CallerRules>,
}

impl Rules {
    pub(super) fn of(config: &Config, table: &RouteTable) -> Self {
        let guard = &config.guard;
        let wants_names = |does: bool| if does { CallerPolicy::Required } else { CallerPolicy::Anonymous };
        let logins = guard.jwt.is_some() || guard.session.is_some();
        let rules = |usual: CallerPolicy| {
            let otherwise = guard.identity.callers.unwrap_or(usual);
            Arc::new(CallerRules::new(table.callers(), otherwise).with_human(human_rule(config)))
        };
        Self {
            direct: rules(wants_names(guard.names_callers())),
            proxied: rules(wants_names(logins && !guard.visitors.enabled)),
        }
    }
}
