//! Limits at the admin listener and on the command line: what they did, who calls, and letting one off.

use std::net::SocketAddr;
use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::engine_support::within;
use crate::gate_support::{APP, ENGINE, Gate, Line, asked, detail};
use crate::host_desk::{Answer, input};
use crate::redis_support::Redis;

const RULES: &str = "[[limits.rule]]\nname = \"often\"\nof = \"requests\"\nby = \"address\"\namount = 2\nper_ms = 3600000\n\
    [[limits.budget]]\nname = \"day\"\nof = \"pictures\"\nby = \"address\"\namount = 5\nper = \"day\"\n";

async fn used_up() -> Gate {
    let gate = Gate::start(&format!("{ENGINE}[limits]\nledger = \"\"\n{RULES}")).await;
    for status in [200, 200, 429] {
        assert_eq!(gate.post(APP, input().to_string()).await.status, status);
    }
    gate
}

async fn admin(gate: &Gate, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let host = gate.admin.to_string();
    let named = headers.to_vec();
    let headers = if named.iter().any(|(name, _)| *name == "host") {
        named
    } else {
        named.into_iter().chain([("host", &*host)]).collect()
    };
    Line::to(gate.admin).await.send(asked(method, path, &headers, "")).await
}

/// The command, as a shell sees it.
async fn falgate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_falgate"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let output = within(command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_admin_listener_tells_what_limits_did_and_the_public_one_does_not() {
    let gate = used_up().await;
    let answer = admin(&gate, Method::GET, "/limits", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
    let usage = answer.json();
    let limit = &usage["limits"][0];
    assert_eq!((&limit["name"], &limit["passed"], &limit["refused"]), (&json!("often"), &json!(2), &json!(1)));
    let called = json!({"key": "address:127.0.0.1", "calls": 3, "refused": 1, "overstated": 0});
    assert_eq!(usage["top"]["this_hour"], json!([called]));
    assert_eq!((&usage["spent"][0]["key"], &usage["spent"][0]["units"]), (&json!("address:127.0.0.1"), &json!(2)));
    let standing = admin(&gate, Method::GET, "/limits/address:127.0.0.1", &[]).await.json();
    assert_eq!((&standing["limits"][0]["left"], &standing["limits"][1]["left"]), (&json!(0), &json!(3)));
    for path in ["/limits", "/limits/address:127.0.0.1"] {
        assert_ne!(gate.get(path).await.status, 200, "nobody outside is told");
    }
    assert_eq!(admin(&gate, Method::POST, "/limits", &[]).await.status, 405);
    assert_eq!(admin(&gate, Method::GET, "/limitsx", &[]).await.status, 404);
    let no_key = admin(&gate, Method::GET, "/limits/ann", &[]).await;
    assert_eq!((no_key.status.as_u16(), detail_of(&no_key).contains("caller:NAME")), (400, true));
}

fn detail_of(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn no_page_resets_a_limit_or_reads_who_calls() {
    let gate = used_up().await;
    let key = "/limits/address:127.0.0.1";
    let origin = gate.admin.to_string();
    let origin = format!("http://{origin}");
    for headers in [
        // A form or a simple fetch of any page: no header of ours.
        &[][..],
        &[("origin", "https://evil.example")],
        // A page of the admin listener's own origin has no business here either.
        &[("x-falgate-admin", "1"), ("origin", &*origin)],
        // A name that was made to point here.
        &[("x-falgate-admin", "1"), ("host", "evil.example:9090")],
        &[("x-falgate-admin", "1"), ("host", "127.0.0.1.evil.example")],
    ] {
        assert_eq!(admin(&gate, Method::DELETE, key, headers).await.status, 403, "{headers:?}");
    }
    assert_eq!(admin(&gate, Method::GET, "/limits", &[("host", "evil.example")]).await.status, 403);
    let asks = [("origin", "https://evil.example"), ("access-control-request-method", "DELETE")];
    let preflight = admin(&gate, Method::OPTIONS, key, &asks).await;
    assert_eq!(preflight.status, 405);
    assert!(preflight.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
    assert_eq!(gate.post(APP, input().to_string()).await.status, 429, "none of them let anybody off");
    let reset = admin(&gate, Method::DELETE, key, &[("x-falgate-admin", "1"), ("host", "localhost:9")]).await;
    assert_eq!((reset.status.as_u16(), reset.json()), (200, json!({"limits": 2})));
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200);
}

#[tokio::test]
async fn a_person_sees_who_calls_and_lets_off_whom_the_table_shows() {
    let gate = used_up().await;
    let admin = gate.admin.to_string();
    let (code, said, complained) = falgate(&["limits", "show", "--admin", &admin]).await;
    assert_eq!((code, complained.as_str()), (Some(0), ""));
    for part in ["2 requests in 1 h", "5 pictures a day", "calls most this hour", "2, anew in", "keys remembered"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let key = said.split_whitespace().find(|word| word.starts_with("address:")).unwrap();
    let (_, stands, _) = falgate(&["limits", "show", key, "--admin", &admin]).await;
    assert!(stands.starts_with("address:127.0.0.1\n") && stands.contains("often  0     2   in "), "{stands}");
    let (code, json, _) = falgate(&["limits", "show", "--json", "--admin", &admin]).await;
    let usage: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &usage["limits"][0]["name"]), (Some(0), &json!("often")));
    let reset = ["limits", "reset", key, "--admin", &admin];
    let (code, said, _) = falgate(&reset).await;
    assert_eq!((code, said.trim()), (Some(0), "address:127.0.0.1: let off by 2 limits"));
    assert!(falgate(&reset).await.1.contains("no limit had anything to forget"));
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200);
}

#[tokio::test]
async fn each_way_to_fail_is_one_sentence_with_its_exit_code() {
    let gate = used_up().await;
    let admin = gate.admin.to_string();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody: SocketAddr = closed.local_addr().unwrap();
    drop(closed);
    let (nobody, public) = (nobody.to_string(), gate.address.to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("falgate.toml");
    std::fs::write(&file, "gate.admin = \"127.0.0.1:0\"").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code, sentence) in [
        (&["limits", "reset", "ann", "--admin", &admin][..], 2, "a key is caller:NAME"),
        (&["limits", "show"], 2, "gate.admin is not set"),
        (&["limits", "show", "--config", file], 2, "gate.admin has port 0"),
        (&["limits", "show", "--admin", &nobody], 69, "(gate.admin) does not answer: Connection refused"),
        (&["limits", "show", "--admin", &public], 69, "is no admin listener of this version"),
        (&["limits", "reset"], 2, "<KEY>"),
        (&["limits", "show", "--config", "no/such.toml"], 78, "cannot read the configuration"),
    ] {
        let (got, said, complained) = falgate(arguments).await;
        assert_eq!((got, said.as_str()), (Some(code), ""), "{arguments:?}: {complained}");
        assert!(complained.contains(sentence), "{arguments:?}: {complained}");
        assert!(complained.starts_with("error:") || complained.lines().count() == 1, "{complained}");
    }
}

#[tokio::test]
async fn a_gate_without_limits_says_so() {
    let gate = Gate::start(ENGINE).await;
    let (code, said, _) = falgate(&["limits", "show", "--admin", &gate.admin.to_string()]).await;
    assert!(code == Some(0) && said.starts_with("no limits are set\n"), "{said}");
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200);
    assert!(detail(&gate.get("/no/such/path").await).contains("not"), "and serves as ever");
}

const SHARED: &str = "[limits]\nstore = \"redis\"\n[limits.redis]\nurl_env = \"STORE_URL\"\nhash_key_env = \"STORE_KEY\"\n\
    timeout_ms = 5000\n";
const STORE_KEY: (&str, &str) = ("STORE_KEY", "an example of 32 bytes, or more of them");

#[tokio::test]
async fn a_share_is_shown_and_let_off_at_all_gates_of_one_redis() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    let url = redis.url();
    let variables = [("FAL_KEY", "id:secret"), ("STORE_URL", url.as_str()), STORE_KEY];
    let text = format!("{ENGINE}{SHARED}{RULES}");
    let gates = [Gate::start_in(&text, &variables, None).await, Gate::start_in(&text, &variables, None).await];
    for (gate, status) in [(0, 200), (1, 200), (0, 429), (1, 429)] {
        assert_eq!(gates[gate].post(APP, input().to_string()).await.status, status);
    }
    let usage = admin(&gates[0], Method::GET, "/limits", &[]).await.json();
    assert_eq!(usage["top"]["this_hour"][0]["calls"], json!(2), "what this gate did");
    let addresses = gates.each_ref().map(|gate| gate.admin.to_string());
    let key = "address:127.0.0.1";
    for address in &addresses {
        let (_, shown, _) = falgate(&["limits", "show", key, "--json", "--admin", address]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let left = |at: usize| (shown["limits"][at]["name"].clone(), shown["limits"][at]["left"].clone());
        assert_eq!((left(0), left(1)), ((json!("often"), json!(0)), (json!("day"), json!(3))), "one call each");
    }
    assert_eq!(admin(&gates[0], Method::DELETE, &format!("/limits/{key}"), &[]).await.status, 403);
    assert_eq!(gates[0].post(APP, input().to_string()).await.status, 429, "that let nobody off");
    let (code, said, _) = falgate(&["limits", "reset", key, "--admin", &addresses[1]]).await;
    assert_eq!((code, said.trim()), (Some(0), "address:127.0.0.1: let off by 2 limits"));
    let (_, said, _) = falgate(&["limits", "reset", key, "--admin", &addresses[0]]).await;
    assert!(said.contains("no limit had anything to forget"), "{said}");
    for (gate, status) in [(0, 200), (1, 200), (0, 429)] {
        assert_eq!(gates[gate].post(APP, input().to_string()).await.status, status, "all of it, and no more");
    }
    let (code, _, said) = falgate(&["limits", "reset", "ann", "--admin", &addresses[0]]).await;
    assert!(code == Some(2) && said.contains("a key is caller:NAME"), "{said}");
    redis.kill();
    for command in ["show", "reset"] {
        let (code, said, complained) = falgate(&["limits", command, key, "--admin", &addresses[0]]).await;
        assert_eq!((code, said.as_str()), (Some(69), ""), "{command}: {complained}");
        assert!(complained.contains("does not answer") && !complained.contains(&url), "{complained}");
    }
}

#[tokio::test]
async fn check_stumbles_over_a_redis_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("falgate.toml");
    std::fs::write(&file, SHARED).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_falgate"));
    command.arg("check").arg("--config").arg(&file).env_clear().env(STORE_KEY.0, STORE_KEY.1);
    // Nobody listens on it, and nobody without rights may.
    command.env("STORE_URL", "redis://127.0.0.1:1").stdin(Stdio::null()).kill_on_drop(true);
    let output = within(command.output()).await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("the limits cannot be kept") || said.contains("limits.redis"), "{said}");
}
