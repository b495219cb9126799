//! `falgate check`.

use falgate::config::Environment;

use super::arguments::Check;
use super::configuration;
use super::exit::Failure;

/// Says whether a gate would start with this configuration, as far as can be known without opening a port.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(check: &Check, environment: &Environment) -> Result<(), Failure> {
    configuration::load(&check.file, environment)?;
    let name = check.file.config.as_ref().map_or_else(|| "built-in values".into(), |path| path.display().to_string());
    println!("{name}: no fault found");
    Ok(())
}
