//! `falgate check`.

use falgate::config::Environment;
use tokio::runtime::Builder;

use super::arguments::Check;
use super::exit::Failure;
use super::{configuration, engine};

/// Says whether a gate would start with this configuration: opens what `serve` opens, but for ports and graphs.
#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(check: &Check, environment: &Environment) -> Result<(), Failure> {
    let config = configuration::load(&check.file, environment)?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|cause| Failure::Running { what: "cannot start the threads", cause: cause.into() })?;
    let causes = runtime.block_on(falgate::gate::rehearse(&config, &|name| environment.look_up(name)));
    if !causes.is_empty() {
        return Err(Failure::Unusable { causes });
    }
    engine::rehearse(&config, environment)?;
    let name = check.file.config.as_ref().map_or_else(|| "built-in values".into(), |path| path.display().to_string());
    println!("{name}: no fault found");
    for caution in falgate::gate::cautions(&config) {
        println!("note: {caution}");
    }
    if let Some(sentence) = engine::unchecked(&config) {
        println!("note: {sentence}");
    }
    Ok(())
}
