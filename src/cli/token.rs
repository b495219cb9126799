//! `falgate token`.

use std::time::{Duration, SystemTime};

use falgate::config::{Config, Environment};
use falgate::gate::ServeError;
use falgate::guard::{Grant, TokenKeySource, Tokens, rotate_token_keys};
use falgate::wire::EndpointId;
use secrecy::ExposeSecret;

use super::arguments::{Mint, TokenCommand};
use super::configuration;
use super::exit::Failure;

/// Mints a token with the gate's own keys, or changes them.
pub(super) fn run(command: &TokenCommand, environment: &Environment) -> Result<(), Failure> {
    match command {
        TokenCommand::Mint(mint) => print_token(mint, environment),
        TokenCommand::Rotate { file } => {
            let config = configuration::load(file, environment)?;
            // A gate that has not started yet has no key to keep.
            open(&config, environment)?;
            rotate_token_keys(&config.guard.tokens, SystemTime::now()).map_err(unusable)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn print_token(mint: &Mint, environment: &Environment) -> Result<(), Failure> {
    let config = configuration::load(&mint.file, environment)?;
    let apps = mint.app.iter().map(|app| alias(app)).collect::<Result<Vec<String>, Failure>>()?;
    let grant = Grant {
        caller: mint.caller.as_deref().map(Into::into),
        tier: mint.tier.as_deref().map(Into::into),
        apps,
        life: mint.life.map(|seconds| Duration::from_secs(seconds.into())),
        origin: mint.origin.clone(),
        now: SystemTime::now(),
    };
    let minted =
        open(&config, environment)?.mint(&grant).map_err(|fault| Failure::Usage { what: fault.to_string() })?;
    println!("{}", minted.token.expose_secret());
    Ok(())
}

fn alias(app: &str) -> Result<String, Failure> {
    let whole = if app.contains('/') { app.to_owned() } else { format!("any/{app}") };
    let endpoint = EndpointId::parse(app).or_else(|| EndpointId::parse(&whole));
    let no_app = || Failure::Usage { what: format!("`{app}` is no app, neither owner/alias nor an alias") };
    endpoint.map(|endpoint| endpoint.alias().to_owned()).ok_or_else(no_app)
}

fn open(config: &Config, environment: &Environment) -> Result<Tokens, Failure> {
    if config.guard.tokens.keys == TokenKeySource::Memory {
        let what = "guard.tokens.keys is `memory`: the running gate's key is its own, and another one opens nothing";
        return Err(Failure::Usage { what: what.to_owned() });
    }
    Tokens::open(&config.guard.tokens, |name| environment.look_up(name)).map_err(unusable)
}

fn unusable(cause: falgate::guard::TokenKeyError) -> Failure {
    Failure::Unusable { causes: vec![ServeError::Assemble(cause.into())] }
}
