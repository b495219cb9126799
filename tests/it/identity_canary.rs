//! What says who calls shows nowhere: no token, key, cookie or widget's secret in logs at their most talkative or metrics.

use falgate::telemetry::LogWriter;
use http::Method;
use serde_json::json;

use crate::gate_identity::{bearer, jwt, key_set};
use crate::gate_support::{ENGINE, FAL_KEY, Gate, Line, PROXY, RUN, asked};
use crate::host_desk::input;
use crate::support::fake_fal::{FakeFal, Reply, Seen};
use crate::support::log::Log;

/// The login, the application and the human check, behind one port.
async fn others() -> FakeFal {
    FakeFal::http(|seen: &Seen| match &*seen.path_and_query {
        "/keys" => Reply::json(200, key_set()),
        "/auth" if seen.header("cookie") == Some("session=canary-good-session") => {
            Reply::json(200, "{}").header("x-auth-caller", "ann")
        }
        "/auth" if seen.header("cookie") == Some("session=canary-odd-session") => Reply::json(500, "canary-of-the-app"),
        "/auth" => Reply::json(401, "{}"),
        _ => Reply::json(200, "{\"success\":false,\"error-codes\":[\"timeout-or-duplicate\"]}"),
    })
    .await
}

#[tokio::test]
async fn no_token_key_cookie_or_widgets_secret_shows_in_logs_or_metrics() {
    let log = Log::default();
    // A second dispatcher: with a single one, tracing remembers what other tests did not want to hear.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _listening = tracing::dispatcher::set_default(&tracing::Dispatch::new(subscriber));
    let (lines, guard) = LogWriter::start(log.clone()).unwrap();
    let others = others().await;
    let url = others.url();
    let text = format!(
        "{}[guard.keys]\nenv = \"KEYS\"\n[guard.session]\nurl = \"{url}/auth\"\ncookies = [\"session\"]\n\
         [guard.visitors]\nenabled = true\nkeys = \"memory\"\n\
         [guard.human]\nprovider = \"hcaptcha\"\nsecret = {{ env = \"WIDGET\" }}\nverify_url = \"{url}/siteverify\"\n{ENGINE}",
        jwt(&url)
    );
    let variables =
        [("FAL_KEY", FAL_KEY), ("KEYS", "bob canary-key-id:canary-key"), ("WIDGET", "canary-widget-secret")];
    let gate = Gate::start_in(&text, &variables, Some(lines)).await;
    let (good, ended) = (bearer("ann", json!({})), bearer("ann", json!({"exp": 1_000_000_000})));
    let mut statuses = Vec::new();
    for credential in [
        ("authorization", &*good),
        ("authorization", &*ended),
        ("authorization", "Key canary-key-id:canary-key"),
        ("authorization", "Key canary-key-id:canary-guess"),
        ("cookie", "session=canary-good-session"),
        ("cookie", "session=canary-ended-session"),
        ("cookie", "session=canary-odd-session"),
        ("cookie", "falgate_visitor=canary-visitor"),
    ] {
        let headers = [("content-type", "application/json"), ("x-fal-target-url", RUN), credential];
        let answer = gate.send(asked(Method::POST, PROXY, &headers, input().to_string())).await;
        assert!(!format!("{answer:?}").contains("canary-"), "{answer:?}");
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [200, 401, 200, 401, 200, 401, 503, 401]);
    let body = json!({"token": "canary-widget-token"}).to_string();
    assert_eq!(gate.send(asked(Method::POST, "/api/fal/human", &[], body)).await.status, 403);
    let metrics = Line::to(gate.admin).await.send(asked(Method::GET, "/metrics", &[], "")).await;
    drop(gate);
    drop(guard);
    let said = log.text() + &String::from_utf8_lossy(&metrics.body);
    assert!(said.contains("human check was not passed") && said.contains("session could not be checked"), "{said}");
    assert!(!said.contains("canary-"), "{}", said.split("canary-").next().unwrap().lines().next_back().unwrap());
    for token in [good, ended] {
        assert!(!said.contains(token.rsplit('.').next().unwrap()));
    }
}
