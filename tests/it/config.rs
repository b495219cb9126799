//! Reading a configuration: every fault at once, with its key.

use falgate::config::{Config, Environment, Faults};

fn faults(text: &str, environment: &Environment) -> Vec<String> {
    let Faults(faults) = Config::load(text, environment).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_starts(faults: &[String], expected: &[&str]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, start) in faults.iter().zip(expected) {
        assert!(fault.starts_with(start), "{fault}\nshould start with\n{start}");
    }
}

#[test]
fn nothing_said_is_the_default() {
    assert_eq!(Config::load("", &Environment::default()).unwrap(), Config::default());
}

#[test]
fn all_faults_are_told_at_once_with_their_keys() {
    let text = r#"
        odd = 1
        [telemetry]
        level = "loud"
        colour = true
        [[route]]
        endpoint = "fal-ai/one"
        to = "moon"
        [[route]]
        endpoint = "fal-ai/two"
        to = "engine"
        spill = "engine"
        [[route]]
        endpoint = "//"
        to = "engine"
        [[route]]
        to = "engine"
    "#;
    assert_starts(
        &faults(text, &Environment::default()),
        &[
            "odd: unknown key `odd`, expected ",
            "route[0].to: unknown variant `moon`",
            "route[0]: missing key `to`",
            "route[1].spill: unknown variant `engine`",
            "route[2].endpoint: `//` is no endpoint pattern",
            "route[2]: missing key `endpoint`",
            "route[3]: missing key `endpoint`",
            "telemetry.colour: unknown key `colour`, expected ",
            "telemetry.level: unknown variant `loud`",
        ],
    );
}

#[test]
fn a_broken_file_is_named_by_line_and_column_and_not_shown() {
    let told = faults("[telemetry]\nlevel = hush-hush-secret\n", &Environment::default());
    assert_starts(&told, &["line 2, column 9 is no TOML: "]);
    assert!(!told[0].contains("hush"), "{told:?}");
}

#[test]
fn variables_are_laid_over_the_file() {
    let environment = Environment::from([
        ("FALGATE__TELEMETRY__LEVEL", "debug"),
        ("FALGATE__TELEMETRY__FORMAT", "\"json\""),
        ("FALGATE__ROUTE", r#"[{ endpoint = "**", to = "upstream" }]"#),
        ("FAL_KEY", "a-key:of-no-worth"),
    ]);
    let config = Config::load("telemetry.level = \"warn\"", &environment).unwrap();
    let written = Config::load(
        "telemetry = { level = \"debug\", format = \"json\" }\nroute = [{ endpoint = \"**\", to = \"upstream\" }]",
        &Environment::from([("FAL_KEY", "a-key:of-no-worth")]),
    );
    assert_eq!(config, written.unwrap());
}

#[test]
fn a_fault_of_a_variable_names_the_variable() {
    let environment = Environment::from([
        ("FALGATE__TELEMETRY__LEVEL", "7"),
        ("FALGATE__TELEMETRY__COLOUR__DEPTH", "8"),
        ("FALGATE__ROUTE__0__TO", "engine"),
        ("FALGATE__", "1"),
        ("FALGATE__TELEMETRY____LEVEL", "1"),
    ]);
    let told = faults("route = []", &environment);
    assert_starts(
        &told,
        &[
            "the variable names no key (set by FALGATE__)",
            "route.0.to: `route` is a list: set it as a whole, in TOML's brackets (set by FALGATE__ROUTE__0__TO)",
            "the variable names no key (set by FALGATE__TELEMETRY____LEVEL)",
            "telemetry.colour: unknown key `colour`",
            "telemetry.level: ",
        ],
    );
    assert!(told[3].ends_with("(set by FALGATE__TELEMETRY__COLOUR__DEPTH)"), "{}", told[3]);
    assert!(told[4].ends_with("(set by FALGATE__TELEMETRY__LEVEL)"), "{}", told[4]);
}

#[test]
fn a_renamed_key_stays_as_an_error_that_names_the_new_one() {
    let told = faults("proxy.allowed_endpoints = [\"fal-ai/**\"]", &Environment::default());
    assert!(
        told.contains(&"proxy.allowed_endpoints: this key is now `proxy.targets.endpoints`".to_owned()),
        "{told:?}"
    );
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
    let key = "01234567-89ab-cdef-0123-456789abcdef:0123456789abcdef0123456789abcdef";
    let text = format!(
        "telemetry.level = \"{key}\"\nroute = [{{ endpoint = \"{key}\", to = \"engine\" }}]\nfal_key = \"{key}\""
    );
    let told = faults(&text, &Environment::from([("FALGATE__TELEMETRY__FORMAT", key)]));
    for place in ["fal_key", "route[0].endpoint", "telemetry.level", "telemetry.format"] {
        let start = format!("{place}: this looks like a fal key; put it in an environment variable or a file");
        assert!(told.iter().any(|fault| fault.starts_with(&start)), "{place}: {told:#?}");
    }
    assert!(told.iter().all(|fault| !fault.contains("89ab")), "{told:#?}");
}

#[test]
fn the_environment_hides_what_it_holds() {
    let environment = Environment::from([("FAL_KEY", "canary-canary")]);
    assert!(!format!("{environment:?}").contains("canary"));
    assert_eq!(environment.look_up("FAL_KEY").as_deref(), Some("canary-canary"));
    assert_eq!(environment.look_up("FAL_KEY_FILE"), None);
}
