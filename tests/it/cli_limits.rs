//! `falgate check` and the ledger of budgets, as a shell sees them.

use std::path::Path;
use std::process::Command;

fn check(folder: &Path, ledger: &Path) -> (Option<i32>, String) {
    let file = folder.join("falgate.toml");
    std::fs::write(&file, format!("[limits]\nledger = \"{}\"\n", ledger.display())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_falgate"));
    let output = command.args(["check", "--config"]).arg(&file).env_clear().output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn check_opens_the_ledger_as_serve_would_and_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.redb");
    assert_eq!(check(folder.path(), &ledger), (Some(0), String::new()));
    assert!(!ledger.exists());
    std::fs::write(&ledger, "a text that is no ledger").unwrap();
    let no_folder = folder.path().join("no/ledger.redb");
    for (ledger, why) in [(&ledger, "the ledger cannot be opened"), (&no_folder, "cannot be written: No such file")] {
        let (code, complained) = check(folder.path(), ledger);
        assert_eq!(code, Some(78), "{complained}");
        let named = format!("the ledger of budgets in {} cannot be used (limits.ledger): ", ledger.display());
        assert!(complained.contains(&named) && complained.contains(why), "{complained}");
        assert_eq!(complained.lines().count(), 1, "{complained}");
    }
}
