//! What only the whole configuration can tell.

use falgate::config::{Config, Environment, Faults};

fn faults(text: &str, environment: &Environment) -> Vec<String> {
    match Config::load(text, environment) {
        Ok(_) => Vec::new(),
        Err(Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn assert_fault(text: &str, expected: &str) {
    let found = faults(text, &Environment::default());
    assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected}\nis not in\n{found:#?}");
}

#[test]
fn a_room_s_fault_carries_the_room_s_name() {
    assert_fault("gate.public_url = \"draw.example\"", "gate.public_url: `draw.example` is no origin");
    assert_fault("engine.linger_ms = 100000", "engine.linger_ms: is 100000");
}

#[test]
fn a_row_to_an_engine_that_is_off_is_a_fault() {
    assert_fault(
        "route = [{ endpoint = \"fal-ai/lcm\", to = \"engine\" }]",
        "route[0].to: `fal-ai/lcm` goes to the engine, but engine.enabled is false",
    );
}

#[test]
fn an_engine_that_no_row_leads_to_is_a_fault() {
    assert_fault("engine = { enabled = true, model = \"m\" }", "engine.enabled: is true, but no [[route]]");
}

#[test]
fn a_row_that_goes_upstream_does_not_spill() {
    assert_fault(
        "route = [{ endpoint = \"fal-ai/lcm\", to = \"upstream\", spill = \"upstream\" }]",
        "route[0].spill: `fal-ai/lcm` goes upstream already",
    );
}

#[test]
fn a_page_that_nobody_answers_is_a_fault() {
    let page = "playground = { enabled = true }\n";
    assert_fault(page, "playground.endpoint: nobody answers `fal-ai/lcm-sd15-i2i`");
    assert_fault("playground.endpoint = \"lcm\"", "playground.endpoint: `lcm` is no app");
    let row = "engine = { enabled = true, model = \"m\" }\nroute = [{ endpoint = \"fal-ai/*\", to = \"engine\" }]";
    let found = faults(&format!("{page}{row}"), &Environment::default());
    assert!(!found.iter().any(|fault| fault.contains("playground")), "{found:?}");
}

#[test]
fn uploads_are_kept_by_someone_who_can() {
    assert_fault("gate.uploads = \"gate\"", "gate.uploads: is `gate`, which keeps files for its engine, but");
    assert_fault("gate.uploads = \"upstream\"", "gate.uploads: is `upstream`, but proxy.targets.storage is false");
}

#[test]
fn a_call_that_may_go_upstream_needs_a_key() {
    for (text, why) in [
        ("route = [{ endpoint = \"fal-ai/x\", to = \"upstream\" }]", "route[0] leads `fal-ai/x` to the upstream"),
        ("proxy.targets.endpoints = [\"fal-ai/**\"]", "proxy.targets.endpoints allows `fal-ai/**`"),
        ("proxy.targets.tokens = true", "proxy.targets.tokens is on"),
        ("proxy.targets.storage = true", "proxy.targets.storage is on"),
    ] {
        let found = faults(text, &Environment::default());
        assert!(found.len() == 1 && found[0].starts_with("upstream.keys: no fal key: set FAL_KEY"), "{found:?}");
        assert!(found[0].contains(why), "{found:?}");
        assert_eq!(faults(text, &Environment::from([("FAL_KEY", "an-id:a-secret")])), Vec::<String>::new());
    }
}

#[test]
fn no_key_is_needed_where_all_calls_stay_here() {
    let text = "engine = { enabled = true, model = \"m\" }\n\
                route = [{ endpoint = \"fal-ai/lcm\", to = \"engine\" }]";
    assert_eq!(faults(text, &Environment::default()), Vec::<String>::new());
}

#[test]
fn a_key_that_is_half_set_is_a_fault_that_shows_nothing_of_it() {
    let environment = Environment::from([("FAL_KEY_SECRET", "canary")]);
    let found = faults("proxy.targets.endpoints = [\"fal-ai/**\"]", &environment);
    assert!(found.len() == 1 && found[0].contains("FAL_KEY_ID is missing"), "{found:?}");
    assert!(!found[0].contains("canary"), "{found:?}");
}

#[test]
fn files_that_are_named_and_not_there_are_faults_where_the_disk_is_in_sight() {
    let text = "proxy.targets.endpoints = [\"fal-ai/**\"]\n\
                upstream = { keys = [{ file = \"no.key\" }], ca_file = \"no-ca.pem\" }\n\
                gate.tls = { cert_file = \"no-cert.pem\", key_file = \"no-key.pem\" }";
    assert_eq!(faults(text, &Environment::default()), Vec::<String>::new());
    let found = faults(text, &Environment::default().with_disk());
    let keys = ["gate.tls.cert_file", "gate.tls.key_file", "upstream.ca_file", "upstream.keys[0].file"];
    assert_eq!(found.len(), keys.len(), "{found:#?}");
    for (fault, key) in found.iter().zip(keys) {
        assert!(fault.starts_with(&format!("{key}: ")) && fault.ends_with("is not there"), "{fault}");
    }
}

#[test]
fn access_keys_are_there_and_are_keys() {
    let text = "guard.keys.env = \"DOOR_KEYS\"";
    assert_fault(text, "guard.keys.env: the variable DOOR_KEYS is not set");
    let found = faults(text, &Environment::from([("DOOR_KEYS", "canary")]));
    assert!(found.len() == 1 && found[0].starts_with("guard.keys.env: ") && !found[0].contains("canary"), "{found:?}");
    let good = Environment::from([("DOOR_KEYS", "me an-id:long-enough-to-be-a-secret")]);
    assert_eq!(faults(text, &good), Vec::<String>::new());
    let found = faults("guard.keys.file = \"no.keys\"", &Environment::default().with_disk());
    assert_eq!(found, ["guard.keys.file: no.keys is not there"]);
}

#[test]
fn faults_of_reading_and_of_checking_are_told_together() {
    let text = "odd = 1\ngate.public_url = \"draw.example\"\nengine.enabled = true\nengine.queue = 0";
    let found = faults(text, &Environment::default());
    for key in ["odd: ", "engine.queue: ", "gate.public_url: ", "engine.model: ", "engine.enabled: "] {
        assert!(found.iter().any(|fault| fault.starts_with(key)), "{key}: {found:#?}");
    }
}

#[test]
fn a_model_that_is_not_there_is_a_fault_where_the_disk_is_in_sight() {
    let text = "engine = { enabled = true, model = \"no/such/model\" }\n\
                route = [{ endpoint = \"fal-ai/lcm\", to = \"engine\" }]";
    assert_eq!(faults(text, &Environment::default()), Vec::<String>::new());
    assert_eq!(faults(text, &Environment::default().with_disk()), ["engine.model: no/such/model is not there"]);
}

#[test]
fn a_flag_rules_over_file_and_variables() {
    let environment = Environment::from([("FALGATE__GATE__LISTEN", "127.0.0.1:1")]);
    let environment = environment.with_flag("--listen", "gate.listen", "127.0.0.1:2");
    let config = Config::load("gate.listen = \"127.0.0.1:3\"", &environment).unwrap();
    assert_eq!(config.gate.listen.port(), 2);
    let wrong = Environment::default().with_flag("--listen", "gate.listen", "nowhere");
    assert!(faults("", &wrong)[0].ends_with("(set by --listen)"));
}
