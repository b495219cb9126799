//! The page at `/` and the shim: what is served, to whom, and under which headers.

use http::Method;

use crate::gate_support::{APP, ENGINE, Gate, asked};
use crate::host_desk::{Answer, input};

const PAGE: &str = "[playground]\nenabled = true\n";
const LEGACY: &str = "110602490-lcm-sd15-i2i.gateway.alpha.fal.ai";

async fn gate() -> Gate {
    Gate::start(&format!("{PAGE}{ENGINE}")).await
}

/// All paths that the page names, and its own.
async fn files_of_the_page(gate: &Gate) -> Vec<String> {
    let html = String::from_utf8(gate.get("/").await.body.to_vec()).unwrap();
    let mut files: Vec<String> =
        html.split('"').filter(|word| word.starts_with("/playground/")).map(str::to_owned).collect();
    let script = String::from_utf8(gate.get("/playground/page.js").await.body.to_vec()).unwrap();
    files.extend(script.split('"').filter_map(|word| Some(format!("/playground/{}", word.strip_prefix("./")?))));
    files.push("/".to_owned());
    assert!(files.len() > 7, "{files:?}");
    files
}

fn assert_plain(answer: &Answer) {
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer:?}");
    assert_eq!(answer.header("referrer-policy"), "no-referrer", "{answer:?}");
}

#[tokio::test]
async fn the_page_and_all_that_it_names_are_served_under_a_strict_policy() {
    let gate = gate().await;
    for path in files_of_the_page(&gate).await {
        let answer = gate.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-cache"), "{path}: {answer:?}");
        assert_plain(&answer);
        let policy = answer.header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.split("; ").any(|found| found == rule), "{path}: {rule} is not in {policy}");
        }
        assert!(!policy.contains("unsafe") && answer.header("access-control-allow-origin").is_empty(), "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
    }
}

#[tokio::test]
async fn pages_of_every_origin_may_load_the_shim() {
    let gate = gate().await;
    for (path, kind) in [
        ("/falgate.js", "text/javascript; charset=utf-8"),
        ("/falgate.classic.js", "text/javascript; charset=utf-8"),
        ("/falgate.d.ts", "text/plain; charset=utf-8"),
    ] {
        let answer = gate.send(asked(Method::GET, path, &[("origin", "https://any.example")], "")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, kind), "{path}");
        assert_plain(&answer);
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin", "{path}");
        assert_eq!(answer.header("cache-control"), "public, max-age=300", "{path}");
    }
}

#[tokio::test]
async fn a_file_that_a_browser_has_is_not_sent_again() {
    let gate = gate().await;
    for path in ["/", "/playground/page.js", "/falgate.js"] {
        let first = gate.get(path).await;
        let etag = first.header("etag").to_owned();
        assert!(etag.len() > 10 && etag.starts_with('"'), "{etag}");
        for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
            let again = gate.send(asked(Method::GET, path, &[("if-none-match", &known)], "")).await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path} {known}");
            for name in ["etag", "cache-control", "access-control-allow-origin", "content-security-policy"] {
                assert_eq!(again.header(name), first.header(name), "{path}: {name}");
            }
        }
        let other = gate.send(asked(Method::GET, path, &[("if-none-match", "\"other\"")], "")).await;
        assert_eq!((other.status.as_u16(), &other.body), (200, &first.body), "{path}");
        let head = gate.send(asked(Method::HEAD, path, &[], "")).await;
        assert_eq!((head.status.as_u16(), head.body.len(), head.header("etag")), (200, 0, etag.as_str()), "{path}");
        assert_eq!(head.header("content-length"), first.body.len().to_string(), "{path}");
    }
    let posted = gate.post("/falgate.js", "{}").await;
    assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, "GET, HEAD"));
}

#[tokio::test]
async fn the_page_is_there_only_where_it_is_switched_on_and_the_shim_where_it_is_not_switched_off() {
    let plain = Gate::start(ENGINE).await;
    assert_eq!(plain.get("/").await.status, 404);
    assert_eq!(
        plain.get("/playground/page.js").await.status,
        403,
        "a call to an app of that name, which is not allowed"
    );
    assert_eq!(plain.get("/falgate.js").await.status, 200);
    let neither = Gate::start(&format!("[playground]\nshim = false\n{ENGINE}")).await;
    assert_eq!(neither.get("/falgate.js").await.status, 404);
}

#[tokio::test]
async fn a_legacy_host_has_calls_at_its_root_and_no_page() {
    let gate = gate().await;
    let headers = [("host", LEGACY), ("content-type", "application/json")];
    let run = gate.send(asked(Method::POST, "/", &headers, input().to_string())).await;
    assert_eq!(run.status, 200, "{run:?}");
    let asked_there = gate.send(asked(Method::GET, "/", &headers, "")).await;
    assert_eq!((asked_there.status.as_u16(), asked_there.header("content-type")), (422, "application/json"));
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200, "other paths are calls as before");
}
