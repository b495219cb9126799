//! `falgate key`.

use falgate::guard::NewKey;
use secrecy::ExposeSecret;

use super::arguments::{KeyCommand, NewKeyWish};
use super::exit::Failure;

/// Makes access keys.
pub(super) fn run(command: &KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::New(wish) => print_key(wish),
    }
}

/// The line goes to standard output, where it can be put into the file, and the key to standard error, where it cannot.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command's answer")]
fn print_key(wish: &NewKeyWish) -> Result<(), Failure> {
    let new = NewKey::make(wish.name.as_deref(), wish.tier.as_deref());
    let new = new.map_err(|_| Failure::Usage {
        what: "names and tiers are one word of at most 64 characters; none begins with `#` or `visitor-`".to_owned(),
    })?;
    eprintln!("{}", new.key.expose_secret());
    println!("{}", new.line);
    Ok(())
}
