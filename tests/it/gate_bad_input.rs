//! Bad input of every kind against one running gate: each row has a clear answer, and the gate serves on.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::gate_support::{APP, ENGINE, Gate, PROXY, RUN, asked, detail, fal_at, proxied};
use crate::host_desk::{data_uri, input, input_with, png};
use crate::support::fake_fal::{FakeFal, Reply};

const JSON: (&str, &str) = ("content-type", "application/json");

/// What is asked, and the status and a part of the detail of its answer.
type Row = (Request<Full<bytes::Bytes>>, u16, &'static str);

fn targets() -> Vec<Row> {
    let rows = [
        ("", 400, "missing the x-fal-target-url header"),
        ("not a url", 412, "a character that no URL has"),
        ("nourl", 412, "no https URL"),
        ("http://fal.run/fal-ai/flux", 412, "no https URL"),
        ("ftp://fal.run/fal-ai/flux", 412, "no https URL"),
        ("https://a:b@fal.run/fal-ai/flux", 412, "user info"),
        ("https://fal.run@evil.test/fal-ai/flux", 412, "user info"),
        ("https://fal.run:1/fal-ai/flux", 412, "a port"),
        ("https://fal.run.evil.test/fal-ai/flux", 412, "none of fal's"),
        ("https://notfal.run/fal-ai/flux", 412, "none of fal's"),
        ("https://evil.test/?fal.ai", 412, "none of fal's"),
        ("https://fal.run./fal-ai/flux", 412, "none of fal's"),
        ("https://x.fal.run/fal-ai/flux", 412, "none of fal's"),
        ("https://127.0.0.1/fal-ai/flux", 412, "none of fal's"),
        ("https://[::1]/fal-ai/flux", 412, "none of fal's"),
        ("https://fal.run\\@evil.test/a/b", 412, "a character that no URL has"),
        ("https://fal.run/fal-ai/flux#x", 412, "a character that no URL has"),
        ("https://fal.run/fal-ai%2fflux", 412, "an encoded slash"),
        ("https://fal.run/fal-ai/x/../flux", 412, "dot segments"),
        ("https://fal.run/fal-ai/x/%2e%2e/flux", 412, "dot segments"),
        ("https://fal.run/fal-ai/flux;x", 412, "a character that no endpoint has"),
        ("https://fal.run/fal-ai/flux%00", 412, "a character that no endpoint has"),
        ("https://fal.run/fal-ai/%ff", 412, "not UTF-8"),
        ("https://fal.run/FAL-AI/FLUX", 403, "not allowed"),
        ("https://fal.run/", 404, "not found"),
        ("https://rest.fal.ai/billing", 404, "not found"),
        ("https://rest.fal.ai/tokens/", 422, "allowed_apps"),
        ("https://queue.fal.run/fal-ai/flux?fal_webhook=https://a.test", 403, "webhooks are not allowed"),
        ("https://queue.fal.run/fal-ai/flux?fal%5Fwebhook=x", 403, "webhooks are not allowed"),
        ("https://queue.fal.run/fal-ai/flux/requests/1/status", 405, "use GET"),
        ("https://queue.fal.run/fal-ai/lcm-sd15-i2i", 501, "not supported for apps that this gate hosts"),
        ("https://fal.run/fal-ai/lcm-sd15-i2i/stream", 501, "not supported for apps that this gate hosts"),
    ];
    rows.into_iter().map(|(target, status, said)| (proxied(target, "{}"), status, said)).collect()
}

fn heads() -> Vec<Row> {
    let target = ("x-fal-target-url", "https://fal.run/fal-ai/flux");
    let typed = |kind: &'static str| asked(Method::POST, PROXY, &[("content-type", kind), target], "{}");
    let long = format!("https://fal.run/fal-ai/{}", "a".repeat(9000));
    let timeout = [JSON, ("x-fal-request-timeout", "soon")];
    vec![
        (asked(Method::POST, PROXY, &[JSON], "{}"), 400, "missing the x-fal-target-url header"),
        (proxied(&long, "{}"), 412, "longer than 8192 bytes"),
        (typed("text/plain"), 415, "send application/json"),
        (typed("multipart/form-data; boundary=x"), 415, "send application/json"),
        (typed("application/x-www-form-urlencoded"), 415, "send application/json"),
        (asked(Method::POST, PROXY, &[target], "{}"), 415, "send application/json"),
        (asked(Method::DELETE, PROXY, &[JSON, target], ""), 405, "use GET, POST, PUT"),
        (asked(Method::PATCH, PROXY, &[JSON, target], "{}"), 405, "method not allowed"),
        (asked(Method::DELETE, APP, &[], ""), 405, "use GET, POST"),
        (asked(Method::POST, "/healthz", &[], ""), 405, "use GET, HEAD"),
        (asked(Method::POST, "/files/00000000000000000000000000000000.png", &[], ""), 405, "PUT"),
        (asked(Method::PUT, "/files/00000000000000000000000000000000.png", &[], "x"), 403, "upload"),
        (asked(Method::GET, "/files/..%2fsecret", &[], ""), 404, "not found"),
        (asked(Method::GET, "/nothing", &[], ""), 404, "/nothing not found"),
        (asked(Method::GET, "/fal-ai/x%2f..%2fflux", &[], ""), 404, "not found"),
        (asked(Method::POST, "/fal-ai/lcm-sd15-i2i/extra", &[JSON], "{}"), 403, "not allowed"),
        (asked(Method::POST, APP, &timeout, input().to_string()), 400, "must be a number of seconds"),
        (asked(Method::POST, APP, &[("content-type", "text/plain")], "{}"), 415, "application/json"),
        (proxied(RUN, vec![b' '; 200_001]), 413, "larger than 200000 bytes"),
    ]
}

fn bodies() -> Vec<Row> {
    let deep = "[".repeat(5000);
    let text = |body: &str| proxied(RUN, body.to_owned());
    let with = |change: Value| proxied(RUN, input_with(change).to_string());
    let picture = |uri: &str| with(json!({ "image_url": uri }));
    let half = &png(64, 64)[..60];
    vec![
        (text(""), 422, "Field required"),
        (text("{"), 422, "JSON decode error"),
        (text("hello"), 422, "Expecting value"),
        (text("[]"), 422, "valid dictionary"),
        (text("null"), 422, "valid dictionary"),
        (text("{} {}"), 422, "Extra data"),
        (text(&deep), 422, "recursion limit"),
        (proxied(RUN, &b"{\"prompt\":\"\xff\"}"[..]), 422, "JSON decode error"),
        (text("{}"), 422, "\"prompt\""),
        (with(json!({ "prompt": 5 })), 422, "valid string"),
        (with(json!({ "strength": 2 })), 422, "less than or equal to 1"),
        (with(json!({ "strength": "half" })), 422, "unable to parse"),
        (with(json!({ "num_inference_steps": 0 })), 422, "greater than or equal to 1"),
        (with(json!({ "num_inference_steps": 99 })), 422, "less than or equal to 12"),
        (with(json!({ "num_images": 9 })), 422, "less than or equal to 8"),
        (with(json!({ "seed": 1.5 })), 422, "fractional part"),
        (with(json!({ "sync_mode": "maybe" })), 422, "unable to interpret"),
        (with(json!({ "format": "tiff" })), 422, "'jpeg' or 'png'"),
        (picture(""), 422, "it is empty"),
        (picture("cat.png"), 422, "neither an http(s) URL nor a data URI"),
        (picture("file:///etc/passwd"), 422, "neither an http(s) URL nor a data URI"),
        (picture("data:image/png;base64,@@@@"), 422, "base64 is broken"),
        (picture(&data_uri("image/png", b"hello world, no picture")), 422, "no JPEG"),
        (picture(&data_uri("image/svg+xml", b"<svg/>............")), 422, "no JPEG"),
        (picture(&data_uri("image/png", half)), 422, "broken PNG"),
        (picture("http://127.0.0.1/x.png"), 422, "image_url"),
        (picture("http://0x7f.1/x.png"), 422, "image_url"),
        (picture("http://169.254.169.254/latest/meta-data"), 422, "image_url"),
        (picture("http://[::ffff:10.0.0.1]/x.png"), 422, "image_url"),
        (picture("https://u:pw@a.example/x.png"), 422, "credentials"),
        (picture("http://a.example:22/x.png"), 422, "port"),
    ]
}

/// Bytes that are no clean HTTP, and what their answer holds.
fn framings() -> Vec<(String, &'static str, &'static str)> {
    let post = |fields: &str| format!("POST {PROXY} HTTP/1.1\r\nhost: gate.test\r\n{fields}\r\n");
    let many: String = (0..200).map(|at| format!("x-{at}: 1\r\n")).collect();
    vec![
        ("GET /healthz HTTP/1.1\r\n\r\n".to_owned(), "400", "exactly one valid host"),
        ("GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400", "exactly one valid host"),
        ("GET http://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n".to_owned(), "400", "not a plain path"),
        ("GET /healthz HTTP/1.1\nhost: a\n\n".to_owned(), "400", "CR LF"),
        ("GET /healthz HTTP/3.0\r\nhost: a\r\n\r\n".to_owned(), "505", "HTTP version"),
        ("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "405", "method not allowed"),
        ("CONNECT a.test:443 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "405", "method not allowed"),
        ("PURGE / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "405", "method not allowed"),
        (post("content-length: 2\r\ntransfer-encoding: chunked\r\n"), "400", "beside transfer-encoding"),
        (post("content-length: 2\r\ncontent-length: 3\r\n"), "400", "content-length"),
        (post("content-length: +2\r\n"), "400", "content-length"),
        (post("transfer-encoding: chunked, chunked\r\n"), "400", "transfer-encoding"),
        (post("transfer-encoding: gzip\r\n"), "400", "transfer-encoding"),
        (post("name : value\r\n"), "400", "field name"),
        (post("name: a\r\n folded\r\n"), "400", "folded"),
        (post("name: a\u{1}b\r\n"), "400", "control byte"),
        (post("expect: 200-ok\r\n"), "417", "expectation"),
        (post("connection: upgrade\r\nupgrade: h2c\r\n"), "400", "upgrade"),
        (post(&many), "431", "too many fields"),
        (post(&format!("x: {}\r\n", "a".repeat(40_000))), "431", "too large"),
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(9000)), "414", "too long"),
    ]
}

#[tokio::test]
async fn bad_input_of_every_kind_has_a_clear_answer_and_the_gate_serves_on() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let limit = "[proxy]\nbody_limit_bytes = 200000\n";
    let text = format!("{limit}{}{ENGINE}[host]\nmax_body_bytes = 200000\n", fal_at(&fal.url()));
    let gate = Gate::start(&text).await;
    let rows: Vec<Row> = [targets(), heads(), bodies()].into_iter().flatten().collect();
    assert!(rows.len() + framings().len() >= 100, "a row for every kind");
    let mut wrong = Vec::new();
    for (request, status, said) in rows {
        let shown = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let answer = gate.send(request).await;
        let detail = detail(&answer);
        assert!(answer.body.len() < 3000, "{shown}: the answer echoes too much");
        assert_ne!(answer.json()["message"].as_str().unwrap_or_default(), "", "{shown}");
        if answer.status != status || !detail.contains(said) {
            wrong.push(format!("{shown}: want {status} {said}, got {} {detail}", answer.status));
        }
    }
    for (bytes, status, said) in framings() {
        let answer = gate.probe(&bytes).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let is_json = head.contains("content-type: application/json") && body.contains("\"detail\":");
        if !head.starts_with(&format!("HTTP/1.1 {status} ")) || !body.contains(said) || !is_json {
            wrong.push(format!("{:.120}: want {status} {said}, got {answer}", bytes.escape_debug().to_string()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(fal.connections(), 0, "nothing bad went to fal");
    assert!(gate.control().calls().is_empty(), "nothing bad went to the device");
    assert_eq!(gate.proxied(RUN, input().to_string()).await.status, 200);
    assert_eq!(gate.proxied("https://fal.run/fal-ai/flux", "{}").await.status, 200);
}

#[tokio::test]
async fn case_102_no_permanent_failure_looks_like_one_that_clients_repeat() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    for (request, ..) in [targets(), heads(), bodies()].into_iter().flatten() {
        let shown = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let status = gate.send(request).await.status.as_u16();
        assert!(!matches!(status, 429 | 502..=504), "{shown}: {status}");
    }
}
