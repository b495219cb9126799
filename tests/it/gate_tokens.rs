//! Tokens at every door of the gate: who gets one, for which apps, in which form (protocol spec 13, cases 89 to 92).

use std::io;
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::gate_support::{ENGINE, Gate, Line, asked, detail, fal_at, proxied};
use crate::host_desk::Answer;
use crate::support::fake_fal::{FakeFal, Reply};

/// Upstream rows: one whose tokens are fal's, and one whose tokens are the gate's.
const ROWS: &str = r#"
[[route]]
endpoint = "fal-ai/flux/**"
to = "upstream"
token = "fal"
"#;

const ASK: &str = r#"{"allowed_apps":["lcm-sd15-i2i"],"token_expiration":120}"#;

async fn fal() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, "\"fals-own-token\"")).await
}

fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

/// The claims of a token that came as a JSON string.
fn of_text(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    claims(answer.json().as_str().expect("a JSON string"))
}

fn of_object(answer: &Answer) -> Value {
    assert_eq!(answer.status, 201, "{answer:?}");
    let said = answer.json();
    assert!(said["expiresAt"].as_str().unwrap().ends_with('Z'), "{said}");
    claims(said["token"].as_str().unwrap())
}

fn life(claims: &Value) -> u64 {
    claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap()
}

#[tokio::test]
async fn a_token_is_a_json_string_at_every_spelling_of_the_route() {
    let gate = Gate::start(ENGINE).await;
    let json = [("content-type", "application/json")];
    for (host, path) in [
        ("gate.test", "/tokens/"),
        ("gate.test", "/tokens"),
        ("rest.gate.test", "/tokens/"),
        ("rest.alpha.fal.ai", "/tokens/"),
        ("gateway.gate.test", "//tokens//"),
    ] {
        let request = asked(Method::POST, path, &[json[0], ("host", host)], ASK);
        let claims = of_text(&gate.send(request).await);
        assert_eq!((&claims["apps"], life(&claims)), (&json!(["lcm-sd15-i2i"]), 120), "{host}{path}");
        assert_eq!(claims.get("sub"), None, "nobody has said who calls");
    }
    for target in ["https://rest.fal.ai/tokens/", "https://rest.alpha.fal.ai/tokens/", "https://rest.fal.ai/tokens"] {
        let claims = of_text(&gate.proxied(target, ASK).await);
        assert_eq!(claims["apps"], json!(["lcm-sd15-i2i"]), "{target}");
    }
}

#[tokio::test]
async fn the_newer_route_answers_with_an_object_to_every_spelling_of_a_wish() {
    let gate = Gate::start(ENGINE).await;
    for body in [
        json!({"app":"fal-ai/lcm-sd15-i2i","duration":60}),
        json!({"app":"fal-ai/lcm-sd15-i2i/realtime","token_expiration":60}),
        json!({"allowed_apps":["fal-ai/lcm-sd15-i2i/realtime"],"duration":"60"}),
        json!({"allowed_apps":["110602490-lcm-sd15-i2i"],"duration":60.5}),
        json!({"allowed_apps":["lcm-sd15-i2i","lcm-sd15-i2i"],"duration":60}),
    ] {
        for answer in [
            gate.post("/tokens/realtime", body.to_string()).await,
            gate.proxied("https://rest.fal.ai/tokens/realtime", body.to_string()).await,
        ] {
            let claims = of_object(&answer);
            assert_eq!((&claims["apps"], life(&claims)), (&json!(["lcm-sd15-i2i"]), 60), "{body}");
        }
    }
}

#[tokio::test]
async fn a_long_life_is_cut_and_a_missing_one_is_the_usual() {
    let gate = Gate::start(ENGINE).await;
    for (wish, given) in [(json!(86_400), 600), (json!(1), 10), (json!("300"), 300), (Value::Null, 120)] {
        let body = json!({"allowed_apps":["lcm-sd15-i2i"],"token_expiration":wish});
        assert_eq!(life(&of_text(&gate.post("/tokens/", body.to_string()).await)), given, "{body}");
    }
}

#[tokio::test]
async fn a_token_for_an_app_that_is_not_here_is_refused_in_fals_shape() {
    let gate = Gate::start(ENGINE).await;
    for body in [
        json!({"allowed_apps":["unknown"]}),
        json!({"allowed_apps":["lcm-sd15-i2i","unknown"]}),
        json!({"allowed_apps":["someone/lcm-sd15-i2i"]}),
        json!({"allowed_apps":[]}),
        json!({}),
    ] {
        for answer in [
            gate.post("/tokens/", body.to_string()).await,
            gate.proxied("https://rest.fal.ai/tokens/", body.to_string()).await,
        ] {
            assert_eq!(answer.status, 422, "{body}");
            detail(&answer);
        }
    }
    let large = format!(r#"{{"allowed_apps":["lcm-sd15-i2i"],"x":"{}"}}"#, "x".repeat(65 * 1024));
    assert_eq!(gate.post("/tokens/", large).await.status, 413);
    assert_eq!(gate.get("/tokens/").await.status, 405);
}

#[tokio::test]
async fn without_access_keys_the_direct_door_mints_for_hosted_apps_only() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    let flux = r#"{"allowed_apps":["flux"]}"#;
    let refused = gate.post("/tokens/", flux).await;
    assert_eq!(refused.status, 422, "whoever comes without a key does not open the owner's bill");
    assert!(detail(&refused).contains("not allowed by this gate"));
    // The key proxy, which guards the pages, mints for all that it lets pass: that socket is relayed and metered.
    assert_eq!(of_text(&gate.proxied("https://rest.fal.ai/tokens/", flux).await)["apps"], json!(["flux"]));
    assert_eq!(of_text(&gate.post("/tokens/", ASK).await)["apps"], json!(["lcm-sd15-i2i"]));
    assert_eq!(fal.connections(), 0, "fal is asked for nothing");
}

#[tokio::test]
async fn with_access_keys_the_direct_door_asks_for_one_and_the_token_names_its_caller() {
    let fal = fal().await;
    let text = format!("{}[guard.keys]\nenv = \"KEYS\"\n{ENGINE}", fal_at(&fal.url()));
    let variables = [("FAL_KEY", "id:secret"), ("KEYS", "ann 11111111:secret-of-ann")];
    let gate = Gate::start_in(&text, &variables, None).await;
    assert_eq!(gate.post("/tokens/", ASK).await.status, 401);
    let json = ("content-type", "application/json");
    for app in ["lcm-sd15-i2i", "flux"] {
        let body = format!(r#"{{"allowed_apps":["{app}"]}}"#);
        let request = asked(Method::POST, "/tokens/", &[json, ("authorization", "Key 11111111:secret-of-ann")], body);
        let claims = of_text(&gate.send(request).await);
        assert_eq!((&claims["sub"], &claims["apps"]), (&json!("ann"), &json!([app])));
    }
}

#[tokio::test]
async fn fals_own_token_is_fetched_for_rows_that_say_so_and_never_together_with_ours() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}tokens = true\n{ROWS}{ENGINE}", fal_at(&fal.url()))).await;
    let target = "https://rest.fal.ai/tokens/";
    let long = r#"{"allowed_apps":["fal-ai/flux"],"token_expiration":86400,"scope":"all"}"#;
    let answer = gate.proxied(target, long).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = fal.only();
    assert_eq!(call.path_and_query, "/tokens/");
    assert_eq!(
        serde_json::from_slice::<Value>(&call.body).unwrap(),
        json!({"allowed_apps":["flux"],"token_expiration":300})
    );
    let dials = fal.seen().len();
    let mixed = gate.proxied(target, r#"{"allowed_apps":["flux","lcm-sd15-i2i"]}"#).await;
    assert_eq!(mixed.status, 422);
    assert!(detail(&mixed).contains("fal signs one and this gate the other"));
    assert_eq!(of_text(&gate.proxied(target, ASK).await)["apps"], json!(["lcm-sd15-i2i"]));
    assert_eq!(gate.post("/tokens/", r#"{"allowed_apps":["flux"]}"#).await.status, 422, "not at the open door");
    assert_eq!(fal.seen().len(), dials);
}

#[tokio::test]
async fn a_page_gets_its_token_with_a_plain_get() {
    let gate = Gate::start(ENGINE).await;
    let app = "/api/fal/token?app=fal-ai%2Flcm-sd15-i2i%2Frealtime";
    assert_eq!(life(&of_text(&gate.get(app).await)), 120);
    let timed = of_text(&gate.get(&format!("{app}&expires=30")).await);
    assert_eq!((&timed["apps"], life(&timed)), (&json!(["lcm-sd15-i2i"]), 30));
    assert_eq!(life(&of_text(&gate.get("/api/fal/token?app=lcm-sd15-i2i&expires=99999").await)), 600);
    for query in ["", "?app=", "?app=unknown", "?app=lcm-sd15-i2i&expires=soon"] {
        let answer = gate.get(&format!("/api/fal/token{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (422, "no-store"), "{query}");
        detail(&answer);
    }
    let post = gate.post("/api/fal/token?app=lcm-sd15-i2i", "{}").await;
    assert_eq!((post.status.as_u16(), post.header("allow")), (405, "GET"));
    let off = Gate::start(&format!("[proxy]\nenabled = false\n{ENGINE}")).await;
    assert_eq!(off.get(app).await.status, 403, "without the proxy that path is some app, and none that is allowed");
}

#[tokio::test]
async fn only_pages_that_may_call_get_a_token() {
    let gate = Gate::start(&format!("[guard.origins]\nallow = [\"https://draw.example\"]\n{ENGINE}")).await;
    let path = "/api/fal/token?app=lcm-sd15-i2i";
    let get = |headers: &'static [(&'static str, &'static str)]| asked(Method::GET, path, headers, "");
    let allowed = gate.send(get(&[("origin", "https://draw.example"), ("sec-fetch-site", "cross-site")])).await;
    assert_eq!((allowed.status.as_u16(), allowed.header("access-control-allow-origin")), (200, "https://draw.example"));
    assert_eq!(gate.send(get(&[("origin", "http://gate.test"), ("sec-fetch-site", "same-origin")])).await.status, 200);
    assert_eq!(gate.send(get(&[("sec-fetch-site", "same-origin")])).await.status, 200);
    assert_eq!(gate.send(get(&[("origin", "https://evil.example")])).await.status, 403);
    assert_eq!(gate.send(get(&[("origin", "null")])).await.status, 403);
    assert_eq!(gate.send(get(&[("sec-fetch-site", "cross-site")])).await.status, 403);
    let json = ("content-type", "application/json");
    for path in ["/tokens/", "/tokens/realtime"] {
        let request = asked(Method::POST, path, &[json, ("origin", "https://evil.example")], ASK);
        assert_eq!(gate.send(request).await.status, 403, "{path}");
    }
    let preflight = [("origin", "https://draw.example"), ("access-control-request-method", "POST")];
    let answer = gate.send(asked(Method::OPTIONS, "/tokens/", &preflight, "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, "https://draw.example"));
}

#[tokio::test]
async fn a_token_is_bound_to_the_page_that_asked_where_that_is_switched_on() {
    let bound = format!(
        "[guard.origins]\nallow = [\"https://draw.example\"]\n[guard.tokens]\nkeys = \"memory\"\nbind_origin = true\n{ENGINE}"
    );
    let gate = Gate::start(&bound).await;
    let free = Gate::start(ENGINE).await;
    let path = "/api/fal/token?app=lcm-sd15-i2i";
    let asked = |headers: &'static [(&'static str, &'static str)]| asked(Method::GET, path, headers, "");
    let origin = async |gate: &Gate, headers| of_text(&gate.send(asked(headers)).await).get("origin").cloned();
    assert_eq!(origin(&gate, &[("origin", "https://draw.example")]).await, Some(json!("https://draw.example")));
    assert_eq!(origin(&gate, &[("sec-fetch-site", "same-origin")]).await, Some(json!("//gate.test")));
    assert_eq!(origin(&gate, &[]).await, None, "a server asks for a page that it knows");
    assert_eq!(origin(&free, &[("origin", "http://gate.test")]).await, None);
    let json = [("content-type", "application/json"), ("origin", "https://draw.example")];
    let posted = gate.send(super::gate_support::asked(Method::POST, "/tokens/", &json, ASK)).await;
    assert_eq!(of_text(&posted)["origin"], "https://draw.example");
    let mut request = proxied("https://rest.fal.ai/tokens/", ASK);
    request.headers_mut().insert("origin", "https://draw.example".parse().unwrap());
    assert_eq!(of_text(&gate.send(request).await)["origin"], "https://draw.example");
}

#[tokio::test]
async fn a_gate_without_anything_to_open_signs_nothing() {
    let gate = Gate::start_in("", &[], None).await;
    let answer = gate.post("/tokens/", ASK).await;
    assert_eq!(answer.status, 403);
    assert!(detail(&answer).contains("tokens are not allowed"));
}

/// What was logged by this test's thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_token_shows_in_its_answer_and_nowhere_else() {
    let log = Log::default();
    // A second dispatcher: with a single one, tracing remembers what other tests did not want to hear.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _listening = tracing::dispatcher::set_default(&tracing::Dispatch::new(subscriber));
    let (lines, guard) = falgate::telemetry::LogWriter::start(log.clone()).unwrap();
    let gate = Gate::start_in(ENGINE, &[], Some(lines)).await;
    let mut tokens = Vec::new();
    for answer in [
        gate.post("/tokens/", ASK).await,
        gate.proxied("https://rest.fal.ai/tokens/", ASK).await,
        gate.get("/api/fal/token?app=lcm-sd15-i2i").await,
    ] {
        tokens.push(answer.json().as_str().expect("a JSON string").to_owned());
    }
    for token in &tokens {
        // A socket that is let in, one that is not, and a token where none belongs.
        let paths = ["/fal-ai/lcm-sd15-i2i/realtime", "/fal-ai/flux/realtime", "/fal-ai/lcm-sd15-i2i"];
        for path in paths {
            let handshake = [
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ];
            let query = format!("{path}?fal_jwt_token={token}");
            gate.send(asked(Method::GET, &query, if path.ends_with("realtime") { &handshake } else { &[] }, "")).await;
        }
    }
    let metrics = Line::to(gate.admin).await.send(asked(Method::GET, "/metrics", &[], "")).await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.contains("falgate_tokens_minted_total 3"), "{metrics}");
    drop(gate);
    drop(guard);
    let said = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned() + &metrics;
    assert!(said.contains("/tokens/") || said.contains("token"), "the test hears the log: {said}");
    for token in tokens {
        let signature = token.rsplit('.').next().unwrap();
        assert!(!said.contains(signature), "{said}");
    }
}
