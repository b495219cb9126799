//! Every dependency's licence is on the list of `deny.toml`, read from cargo's own metadata without a network.

#![expect(clippy::unwrap_used, reason = "a test program: whatever fails here is a failed test")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Whether an SPDX expression can be satisfied with the allowed licences alone. `/` is the old spelling of `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let fits = any_of(&mut rest, allowed);
    assert!(rest.is_empty(), "cannot read the licence `{expression}`");
    fits
}

fn any_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut fits = all_of(words, allowed);
    while let Some(rest) = words.strip_prefix(&["OR"]) {
        *words = rest;
        fits |= all_of(words, allowed);
    }
    fits
}

fn all_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut fits = one(words, allowed);
    while let Some(rest) = words.strip_prefix(&["AND"]) {
        *words = rest;
        fits &= one(words, allowed);
    }
    fits
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let fits = any_of(words, allowed);
            *words = words.strip_prefix(&[")"]).expect("a bracket is closed");
            fits
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        [name, rest @ ..] => {
            *words = rest;
            allowed.contains(*name)
        }
        [] => false,
    }
}

fn allowed() -> BTreeSet<String> {
    let rules: toml::Table = include_str!("../deny.toml").parse().unwrap();
    let names = rules["licenses"]["allow"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_dependency_has_a_licence_that_we_allow() {
    let version = output("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // Only this platform's packages are sure to be on the disk.
    let arguments = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&output(env!("CARGO"), &arguments)).unwrap();
    let allowed = allowed();
    let packages = metadata["packages"].as_array().unwrap();
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(|licence| is_allowed(licence, &allowed)))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert!(packages.len() > 100 && refused.is_empty(), "{} packages, refused: {refused:#?}", packages.len());
}

#[test]
fn licence_expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Zlib".to_owned(), "A WITH x".to_owned()]);
    for fine in
        ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND (GPL-3.0 OR Zlib)", "A WITH x", "GPL-3.0 AND X OR MIT"]
    {
        assert!(is_allowed(fine, &allowed), "{fine}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "A", "A WITH y", "(MIT OR Zlib) AND GPL-3.0", "GPL-3.0 OR X AND MIT"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
