//! The files in `config/` say what the code says. `FALGATE_BLESS=1 cargo test --test it config_files` writes them anew.

use std::path::PathBuf;

use falgate::config::{Config, Environment};

use crate::annotated_toml;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config").join(name)
}

#[track_caller]
fn assert_fresh(name: &str, text: &str) {
    if std::env::var_os("FALGATE_BLESS").is_some() {
        std::fs::write(file(name), text).unwrap();
    }
    let found = std::fs::read_to_string(file(name)).unwrap_or_default();
    let differs = found.lines().zip(text.lines()).find(|(found, fresh)| found != fresh);
    assert!(found == text, "config/{name} is out of date, write it anew with FALGATE_BLESS=1; first: {differs:#?}");
}

#[test]
fn the_schema_is_fresh() {
    let schema = serde_json::to_string_pretty(&Config::schema()).unwrap() + "\n";
    assert_fresh("falgate.schema.json", &schema);
}

#[test]
fn the_annotated_file_is_fresh() {
    assert_fresh("falgate.toml", &annotated_toml::write(&Config::default(), &Config::schema()));
}

#[test]
fn the_annotated_file_is_the_default() {
    let text = std::fs::read_to_string(file("falgate.toml")).unwrap();
    assert_eq!(Config::load(&text, &Environment::default()).unwrap(), Config::default());
}

#[test]
fn every_example_in_the_annotated_file_is_right() {
    let text = std::fs::read_to_string(file("falgate.toml")).unwrap();
    let uncommented: Vec<&str> = text.lines().map(|line| line.strip_prefix("#> ").unwrap_or(line)).collect();
    // Only the shape counts here: an example may name a file that this machine does not have.
    let table: toml::Table = uncommented.join("\n").parse().unwrap();
    let config: Config = table.try_into().unwrap();
    assert_ne!(config, Config::default());
}

#[test]
fn every_file_names_the_schema_and_has_no_fault() {
    let environment = Environment::from([("FAL_KEY", "a-key-of-no-worth")]);
    for name in ["falgate.toml", "demo.toml", "edge.toml", "gpu.toml", "public-demo.toml"] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        assert!(text.starts_with("#:schema ./falgate.schema.json\n"), "{name}");
        if let Err(faults) = Config::load(&text, &environment) {
            panic!("{name}: {faults}");
        }
    }
}
