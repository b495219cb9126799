//! Who may come in at the direct door, and what every answer has in common.

use std::collections::HashSet;

use http::Method;
use serde_json::json;

use crate::gate_support::{APP, ENGINE, FAL_KEY, Gate, PROXY, asked, detail, fal_at, proxied};
use crate::host_desk::input;
use crate::support::fake_fal::{FakeFal, Reply};

const ACCESS: &str = "canary-access-id:canary-access-secret";
const JSON: (&str, &str) = ("content-type", "application/json");
const MISSING: &str =
    "Cannot access application \"fal-ai/lcm-sd15-i2i\". Authentication is required to access this application.";

async fn fal() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, "{\"from\":\"fal\"}").header("x-fal-request-id", "fals-own")).await
}

/// A gate whose direct door asks for [`ACCESS`].
async fn locked(fal: &FakeFal) -> Gate {
    let text = format!("{}{ENGINE}[guard.keys]\nenv = \"ACCESS\"\n", fal_at(&fal.url()));
    Gate::start_in(&text, &[("FAL_KEY", FAL_KEY), ("ACCESS", ACCESS)], None).await
}

#[tokio::test]
async fn without_access_keys_the_direct_door_leads_to_the_engine_alone() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}tokens = true\nstorage = true\n{ENGINE}", fal_at(&fal.url()))).await;
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200);
    assert_eq!(gate.post("/storage/upload/initiate", "{}").await.status, 200, "kept by this gate");
    for (host, path) in [
        ("gate.test", "/fal-ai/flux"),
        ("gate.test", "/fal-ai/flux/dev"),
        ("gate.test", "/storage/auth/token"),
        ("queue.gate.test", "/fal-ai/flux"),
    ] {
        let answer = gate.send(asked(Method::POST, path, &[("host", host), JSON], "{}")).await;
        assert_eq!((answer.status.as_u16(), detail(&answer).contains("not allowed")), (403, true), "{host}{path}");
    }
    assert_eq!(fal.connections(), 0);
    assert_eq!(gate.proxied("https://fal.run/fal-ai/flux", "{}").await.status, 200, "the proxy does lead there");
}

#[tokio::test]
async fn case_33_a_missing_or_wrong_access_key_is_a_401_in_fals_words() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    let keys = [
        (None, MISSING),
        (Some("Key canary-access-id:wrong-secret"), "No user found for Key ID and Secret"),
        (Some("Bearer canary-access-id"), "No user found for Key ID and Secret"),
        (Some("Key nocolon"), "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."),
        (Some("Basic eDp5"), "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'."),
    ];
    for (key, said) in keys {
        let headers: Vec<_> = [JSON].into_iter().chain(key.map(|key| ("authorization", key))).collect();
        let answer = gate.send(asked(Method::POST, APP, &headers, input().to_string())).await;
        assert_eq!((answer.status.as_u16(), detail(&answer).as_str()), (401, said), "{key:?}");
    }
    assert!(gate.control().calls().is_empty());
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn the_right_access_key_opens_the_engine_and_fal_and_goes_no_further() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    for key in [format!("Key {ACCESS}"), format!("Bearer {ACCESS}")] {
        let headers = [JSON, ("authorization", key.as_str())];
        let run = gate.send(asked(Method::POST, APP, &headers, input().to_string())).await;
        assert_eq!(run.status, 200, "{run:?}");
        let flux = gate.send(asked(Method::POST, "/fal-ai/flux", &headers, "{}")).await;
        assert_eq!((flux.status.as_u16(), flux.json()), (200, json!({ "from": "fal" })));
    }
    for seen in fal.seen() {
        assert_eq!(seen.header("authorization"), Some(format!("Key {FAL_KEY}").as_str()));
        assert!(!format!("{seen:?}").contains(ACCESS));
    }
    assert_eq!(fal.seen().len(), 2);
}

#[tokio::test]
async fn case_108_health_answers_without_a_key() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    assert_eq!(gate.get("/healthz").await.json(), json!({ "status": "ok" }));
    assert_eq!(gate.get("/readyz").await.json(), json!({ "status": "ready" }));
    let app = gate.get("/fal-ai/lcm-sd15-i2i/health").await;
    assert_eq!((app.status.as_u16(), app.json()), (200, json!({ "status": "ready" })));
    assert_eq!(gate.get("/fal-ai/flux/health").await.status, 401, "fal is asked with the owner's key");
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_104_head_and_options_behave_on_every_route() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    let rows = [
        ("/healthz", 200, 405),
        ("/readyz", 200, 405),
        (PROXY, 405, 200),
        ("/api/fal/proxy/anything", 405, 200),
        (APP, 405, 200),
        ("/fal-ai/flux", 405, 200),
        ("/tokens/", 405, 200),
        ("/files/00000000000000000000000000000000.png", 404, 204),
        ("/", 404, 200),
        ("/nothing", 404, 200),
    ];
    for (path, head, options) in rows {
        let answer = gate.send(asked(Method::HEAD, path, &[], "")).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (head, 0), "HEAD {path}: {answer:?}");
        assert_eq!(answer.headers.contains_key("allow"), head == 405, "HEAD {path}: {answer:?}");
        let answer = gate.send(asked(Method::OPTIONS, path, &[], "")).await;
        assert_eq!(answer.status.as_u16(), options, "OPTIONS {path}: {answer:?}");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_105_an_unknown_path_is_a_404_with_a_detail() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    for path in ["/", "/nothing", "/favicon.ico", "/api/fal", "/api/_fal/proxy", "/metrics", "/a/../b"] {
        let answer = gate.get(path).await;
        let found = (answer.status.as_u16(), detail(&answer));
        // What looks like an app is one that is not allowed.
        let is_app = matches!(path, "/api/fal" | "/api/_fal/proxy");
        let want = if is_app { (403, "not allowed") } else { (404, "not found") };
        assert!(found.0 == want.0 && found.1.contains(want.1), "{path}: {found:?}");
    }
}

#[tokio::test]
async fn case_106_every_answer_carries_a_request_id_of_its_own() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    let mut ids = HashSet::new();
    let access = format!("Key {ACCESS}");
    for request in [
        asked(Method::GET, "/healthz", &[], ""),
        asked(Method::GET, "/nothing", &[], ""),
        asked(Method::GET, "/files/0", &[], ""),
        asked(Method::POST, APP, &[], ""),
        asked(Method::POST, APP, &[JSON, ("authorization", &access)], "{}"),
        asked(Method::POST, APP, &[JSON, ("authorization", &access)], input().to_string()),
        asked(Method::OPTIONS, APP, &[("origin", "https://a.test")], ""),
        asked(Method::DELETE, PROXY, &[], ""),
        asked(Method::POST, PROXY, &[("origin", "https://evil.test")], ""),
        proxied("not a url", "{}"),
    ] {
        let answer = gate.send(request).await;
        let id = answer.header("x-fal-request-id").to_owned();
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{answer:?}");
        assert!(ids.insert(id), "{answer:?}");
    }
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "TRACE / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/9\r\nhost: a\r\n\r\n",
        "hello\r\n\r\n",
    ] {
        let answer = gate.probe(bytes).await;
        let id = answer.lines().find_map(|line| line.strip_prefix("x-fal-request-id: ")).expect(&answer);
        assert!(ids.insert(id.to_owned()), "{answer}");
    }
    let through = gate.proxied("https://fal.run/fal-ai/flux", "{}").await;
    assert_eq!(through.header("x-fal-request-id"), "fals-own", "fal's own id passes");
}

#[tokio::test]
async fn case_19_twenty_polls_a_second_pass() {
    let fal = fal().await;
    let gate = locked(&fal).await;
    let mut line = crate::gate_support::Line::to(gate.address).await;
    for _ in 0..40 {
        let target = "https://queue.fal.run/fal-ai/flux/requests/0123/status?logs=0";
        let answer = line.send(asked(Method::GET, PROXY, &[JSON, ("x-fal-target-url", target)], "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(fal.seen().len(), 40);
}
