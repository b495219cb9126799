//! The commands, as a shell sees them.

use std::path::Path;
use std::process::{Command, Output};

fn falgate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_falgate"));
    command.args(arguments).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), text(&stdout), text(&stderr))
}

fn file_with(folder: &Path, content: &str) -> String {
    let path = folder.join("falgate.toml");
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_version_is_the_packages() {
    let (code, said, _) = run(&mut falgate(&["--version"]));
    assert_eq!((code, said.trim()), (Some(0), concat!("falgate ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_shows_commands_examples_and_exit_codes() {
    let (code, said, _) = run(&mut falgate(&["--help"]));
    assert_eq!(code, Some(0));
    for part in ["serve", "check", "model", "falgate serve --config", "Exit codes", "78"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [&["dance"][..], &["serve", "--listen", "nowhere"], &["check", "--config"], &[]] {
        let (code, said, complained) = run(&mut falgate(arguments));
        assert_eq!((code, said.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(complained.to_lowercase().contains("help"), "{arguments:?}: {complained}");
    }
}

#[test]
fn check_passes_a_good_file_and_the_built_in_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "telemetry.level = \"warn\"");
    for (arguments, name) in [(&["check", "--config", &file][..], file.as_str()), (&["check"], "built-in values")] {
        let (code, said, complained) = run(&mut falgate(arguments));
        assert_eq!((code, said.trim(), complained.as_str()), (Some(0), &*format!("{name}: no fault found"), ""));
    }
}

#[test]
fn check_names_all_faults_and_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "odd = 1\n[telemetry]\nlevel = \"loud\"\n");
    let (code, said, complained) = run(falgate(&["check", "-c", &file]).env("FALGATE__TELEMETRY__SHAPE", "round"));
    assert_eq!((code, said.as_str()), (Some(78), ""));
    assert!(complained.starts_with("falgate: 3 faults in the configuration\n"), "{complained}");
    for part in ["\n  odd: ", "\n  telemetry.level: ", "\n  telemetry.shape: ", "(set by FALGATE__TELEMETRY__SHAPE)"] {
        assert!(complained.contains(part), "{part}: {complained}");
    }
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "odd = 1");
    let (code, _, complained) = run(falgate(&["check"]).env("FALGATE_CONFIG", &file));
    assert_eq!(code, Some(78), "{complained}");
}

#[test]
fn a_file_that_is_not_there_is_one_sentence() {
    let (code, _, complained) = run(&mut falgate(&["serve", "--config", "no/such.toml"]));
    assert_eq!(code, Some(78));
    assert!(
        complained.starts_with("falgate: cannot read the configuration no/such.toml: No such file"),
        "{complained}"
    );
}

const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/tiny-lcm-onnx");

#[test]
fn inspect_says_what_is_missing_and_exits_with_69() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let (code, said, complained) = run(&mut falgate(&["model", "inspect", path]));
    assert_eq!(code, Some(69), "{complained}");
    assert!(said.contains("missing") && said.contains("unet/model.onnx"), "{said}");
    assert!(complained.contains("cannot be served"), "{complained}");
}

#[test]
fn inspect_writes_json_too() {
    // A library that is not there: the folder is read all the same.
    let arguments = ["model", "inspect", TINY, "--json", "--library", "no/such/library.so"];
    let (code, said, _) = run(&mut falgate(&arguments));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(69));
    assert_eq!(
        (&report["serves"], &report["missing"], &report["tokenizer"]),
        (&false.into(), &serde_json::json!([]), &true.into())
    );
    assert!(report["problems"][0].as_str().unwrap().contains("no/such/library.so"), "{report}");
}

#[test]
fn inspect_shows_what_a_good_model_holds() {
    if crate::onnx_support::places().is_none() {
        return;
    }
    let mut inspect = falgate(&["model", "inspect", TINY]);
    inspect.current_dir(env!("CARGO_MANIFEST_DIR"));
    inspect.envs(std::env::var_os("ORT_DYLIB_PATH").map(|library| ("ORT_DYLIB_PATH", library)));
    let (code, said, complained) = run(&mut inspect);
    assert_eq!((code, complained.as_str()), (Some(0), ""), "{said}");
    for part in ["text_encoder", "unet", "vae_encoder", "vae_decoder", "timestep_cond", "This model would serve."] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// `falgate model bench` on the tiny model, one measured call a row.
fn benched(more: &[&str]) -> Option<(Option<i32>, String, String)> {
    crate::onnx_support::places()?;
    let mut bench = falgate(&["model", "bench", TINY, "--batch", "2,1", "--steps", "2", "--rounds", "1"]);
    bench.args(if more.contains(&"--size") { &[][..] } else { &["--size", "64"] });
    bench.args(more).current_dir(env!("CARGO_MANIFEST_DIR"));
    bench.envs(std::env::var_os("ORT_DYLIB_PATH").map(|library| ("ORT_DYLIB_PATH", library)));
    Some(run(&mut bench))
}

#[test]
fn a_bench_prints_a_table_of_phases_and_batches_with_progress_beside_it() {
    let Some((code, said, progress)) = benched(&[]) else { return };
    assert_eq!(code, Some(0), "{progress}");
    let (about, table) = said.split_once("\n\n").unwrap();
    for part in ["model     ", "machine   ", "provider  cpu", "options   64×64 px"] {
        assert!(about.contains(part), "{part}: {said}");
    }
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("phase ") && rows[0].ends_with("device"), "{said}");
    let phases = ["text_encoder", "vae_encoder", "unet", "vae_decoder", "picture, 2 steps"];
    let want: Vec<String> =
        phases.iter().flat_map(|phase| [1, 2].map(|batch| format!("{phase:<17} {batch:>5} "))).collect();
    assert_eq!(rows.len(), 1 + want.len(), "{said}");
    for (row, want) in rows[1..].iter().zip(&want) {
        assert!(row.starts_with(want), "{want}: {said}");
        assert!(progress.contains(want), "{want}: {progress}");
    }
    assert!(progress.contains("opened unet in "), "{progress}");
}

#[test]
fn a_bench_writes_json_with_machine_provider_and_options() {
    let Some((code, said, _)) = benched(&["--json"]) else { return };
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(report["rows"].as_array().unwrap().len(), 10);
    let row = &report["rows"][9];
    assert_eq!((&row["part"], &row["steps"], &row["batch"]), (&"picture".into(), &2.into(), &2.into()));
    assert_eq!(row["times"]["calls"], 1);
    assert!(row["times"]["median_ms"].as_f64().unwrap() > 0.0 && row["device_bytes"].is_null(), "{report}");
    assert_eq!((&report["options"]["provider"], &report["options"]["side_px"]), (&"cpu".into(), &64.into()));
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0 && report["model"]["manifest"].is_null(), "{report}");
}

#[test]
fn a_bench_refuses_sides_that_the_model_cannot_take() {
    let Some((code, said, complained)) = benched(&["--size", "100"]) else { return };
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(complained.ends_with("--size is 100, but this model's sides are multiples of 64\n"), "{complained}");
}

#[test]
fn a_certificate_that_is_none_exits_with_78() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem"] {
        std::fs::write(folder.path().join(name), "no pem").unwrap();
    }
    let at = folder.path().display();
    let text = format!(
        "[gate]\nlisten = \"127.0.0.1:0\"\ntls = {{ cert_file = \"{at}/cert.pem\", key_file = \"{at}/key.pem\" }}\n"
    );
    let file = file_with(folder.path(), &text);
    let (code, _, complained) = run(&mut falgate(&["serve", "--config", &file]));
    assert_eq!(code, Some(78), "{complained}");
    assert!(complained.contains("gate.tls"), "{complained}");
}

/// What `check` says of a configuration that reads well.
fn check(folder: &Path, text: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let file = file_with(folder, text);
    let mut check = falgate(&["check", "--config", &file]);
    check.envs(variables.iter().copied()).current_dir(env!("CARGO_MANIFEST_DIR"));
    let (code, _, complained) = run(&mut check);
    (code, complained)
}

#[test]
fn check_finds_what_serve_would_stumble_over_and_tells_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    for name in ["cert.pem", "key.pem", "ca.pem"] {
        std::fs::write(place(name), "no pem").unwrap();
    }
    let text = format!(
        "[gate]\ntls = {{ cert_file = \"{}\", key_file = \"{}\" }}\n[upstream]\nca_file = \"{ca}\"\n\
         [host.fetch]\nca_file = \"{ca}\"\n{ENGINE}",
        place("cert.pem"),
        place("key.pem"),
        ca = place("ca.pem")
    );
    let (code, complained) = check(folder.path(), &text, &[]);
    assert_eq!(code, Some(78), "{complained}");
    for part in ["(gate.tls.cert_file)", "upstream.ca_file", "host.fetch.ca_file", &place("cert.pem")] {
        assert!(complained.contains(part), "{part}: {complained}");
    }
    assert_eq!(complained.lines().count(), 4, "a line for each: {complained}");
}

const ENGINE: &str = "[engine]\nenabled = true\nmodel = \"tests/models/tiny-lcm-onnx\"\n\
    [[route]]\nendpoint = \"fal-ai/lcm-sd15-i2i\"\nto = \"engine\"\n";

#[test]
fn check_finds_keys_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("keys");
    std::fs::write(&key, "short").unwrap();
    let file = format!("[guard.keys]\nfile = \"{}\"\n", key.display());
    let (code, complained) = check(folder.path(), &file, &[]);
    assert_eq!(code, Some(78));
    assert!(complained.contains("guard.keys.file") && !complained.contains("short\n"), "{complained}");
    let fal = format!(
        "[upstream]\nkeys = [{{ file = \"{}\" }}]\n[proxy.targets]\nendpoints = [\"fal-ai/**\"]\n",
        key.display()
    );
    std::fs::write(&key, "").unwrap();
    let (code, complained) = check(folder.path(), &fal, &[]);
    assert_eq!(code, Some(78));
    assert!(complained.contains("upstream.keys"), "{complained}");
}

#[test]
fn check_tells_what_becomes_of_safety_checks_without_a_checker() {
    if crate::onnx_support::places().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (more, what) in [("", "served unchecked"), ("[host]\nwithout_safety_checker = \"refuse\"\n", "refused")] {
        let file = file_with(folder.path(), &format!("{more}{ENGINE}"));
        let mut check = falgate(&["check", "--config", &file]);
        check.envs(std::env::var_os("ORT_DYLIB_PATH").map(|library| ("ORT_DYLIB_PATH", library)));
        let (code, said, complained) = run(check.current_dir(env!("CARGO_MANIFEST_DIR")));
        assert_eq!((code, complained.as_str()), (Some(0), ""), "{said}");
        let note = said.lines().find(|line| line.contains("has no safety checker")).unwrap_or_else(|| panic!("{said}"));
        assert!(note.starts_with("note: tests/models/tiny-lcm-onnx") && note.contains(what), "{note}");
    }
}

#[test]
fn check_finds_a_model_that_lacks_a_part_and_a_library_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().display().to_string();
    let (code, complained) = check(folder.path(), &ENGINE.replace("tests/models/tiny-lcm-onnx", &model), &[]);
    assert_eq!(code, Some(69), "{complained}");
    assert!(complained.contains("the engine cannot serve") && complained.contains("unet/model.onnx"), "{complained}");
    let (code, complained) = check(folder.path(), ENGINE, &[("ORT_DYLIB_PATH", "no/such/library.so")]);
    assert_eq!(code, Some(69), "{complained}");
    assert!(complained.contains("no/such/library.so"), "{complained}");
}

#[test]
fn token_mint_prints_a_token_of_the_gates_own_keys_and_rotate_changes_them() {
    use std::time::SystemTime;

    use falgate::guard::{TokenKeySource, TokenSettings, TokenUse, Tokens};

    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("state/token-keys");
    let file = file_with(folder.path(), &format!("guard.tokens.keys = {{ file = {keys:?} }}"));
    let mint = ["token", "mint", "--config", &file, "--app", "fal-ai/lcm-sd15-i2i/realtime", "--app", "flux"];
    let asked = ["--life", "60", "--caller", "ann", "--origin", "https://draw.example"];
    let (code, token, complained) = run(&mut falgate(&[&mint[..], &asked].concat()));
    assert_eq!((code, complained.as_str()), (Some(0), ""));
    let settings = TokenSettings { keys: TokenKeySource::File(keys), ..TokenSettings::default() };
    let used = |alias| TokenUse { alias, origin: Some("https://draw.example"), now: SystemTime::now() };
    let tokens = Tokens::open(&settings, |_| None).unwrap();
    for alias in ["lcm-sd15-i2i", "flux"] {
        assert_eq!(&*tokens.check(token.trim(), &used(alias)).unwrap().caller.unwrap().name, "ann");
    }
    assert_eq!(run(&mut falgate(&["token", "rotate", "--config", &file])), (Some(0), String::new(), String::new()));
    let (_, newer, _) = run(&mut falgate(&[&mint[..], &asked].concat()));
    let name = |token: &str| jsonwebtoken::decode_header(token.trim()).unwrap().kid;
    assert_ne!(name(&token), name(&newer));
    let rotated = Tokens::open(&settings, |_| None).unwrap();
    assert!([&token, &newer].iter().all(|token| rotated.check(token.trim(), &used("flux")).is_ok()));
}

#[test]
fn a_token_that_would_open_nothing_is_not_minted() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "guard.tokens.keys = \"memory\"");
    let (code, said, complained) = run(&mut falgate(&["token", "mint", "--config", &file, "--app", "lcm"]));
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(complained.contains("guard.tokens.keys"), "{complained}");
    let keys = folder.path().join("token-keys");
    let file = file_with(folder.path(), &format!("guard.tokens.keys = {{ file = {keys:?} }}"));
    let (code, said, complained) = run(&mut falgate(&["token", "mint", "--config", &file, "--app", "*"]));
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(complained.contains("`*` is no app"), "{complained}");
}

#[test]
fn key_new_shows_a_key_once_and_a_line_that_does_not_tell_it() {
    use falgate::guard::AccessKeys;

    let (code, line, key) = run(&mut falgate(&["key", "new", "--name", "ann", "--tier", "pro"]));
    assert_eq!(code, Some(0));
    assert!(line.starts_with("ann sha256:") && line.ends_with(" tier=pro\n"), "{line}");
    let keys = AccessKeys::read([line.as_str()]).unwrap();
    let header = http::HeaderValue::from_str(&format!("Key {}", key.trim())).unwrap();
    let holder = keys.check(Some(&header)).unwrap();
    assert_eq!((&*holder.caller.name, holder.tier.as_deref()), ("ann", Some("pro")));
    assert!(!line.contains(key.trim().split_once(':').unwrap().1));
    for wrong in ["a b", "visitor-1", ""] {
        let (code, said, complained) = run(&mut falgate(&["key", "new", "--name", wrong]));
        assert_eq!((code, said.as_str()), (Some(2), ""), "{wrong}: {complained}");
    }
}

#[test]
fn check_finds_a_login_that_hands_out_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens where this was.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let jwt = format!(
        "[guard.jwt]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = [\"ES256\"]\n\
         keys = {{ jwks_url = \"http://127.0.0.1:{port}/keys\" }}\n"
    );
    let file = file_with(folder.path(), &jwt);
    let (code, said, complained) = run(&mut falgate(&["check", "--config", &file]));
    assert_eq!((code, said.as_str()), (Some(78), ""), "{complained}");
    assert!(complained.contains("guard.jwt.keys.jwks_url"), "{complained}");
    let (code, _, complained) = run(&mut falgate(&["serve", "--config", &file, "--listen", "127.0.0.1:0"]));
    assert_eq!(code, Some(78), "{complained}");
    assert!(complained.contains("guard.jwt.keys.jwks_url"), "{complained}");
}
