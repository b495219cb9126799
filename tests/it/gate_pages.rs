//! What pages in a browser may do at each door.

use http::Method;
use serde_json::json;

use crate::gate_support::{APP, ENGINE, Gate, PROXY, RUN, asked, detail, fal_at, proxied};
use crate::host_desk::{Answer, input, input_with, png};
use crate::support::fake_fal::{FakeFal, Reply};

const PAGE: &str = "https://draw.example";
const EVIL: &str = "https://evil.example";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn fal() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, "{\"from\":\"fal\"}").header("access-control-allow-origin", "*")).await
}

/// A gate for pages of [`PAGE`], locked at its direct door.
async fn gate(fal: &FakeFal) -> Gate {
    let guard = format!("[guard.origins]\nallow = [\"{PAGE}\"]\n[guard.keys]\nenv = \"ACCESS\"\n");
    let text = format!("{}{ENGINE}{guard}", fal_at(&fal.url()));
    Gate::start_in(&text, &[("FAL_KEY", "a-key:a-secret"), ("ACCESS", "access-id:access-secret")], None).await
}

fn preflight(path: &str, origin: &str, method: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type,x-fal-target-url,x-evil"),
    ];
    asked(Method::OPTIONS, path, &headers, "")
}

fn allowed(answer: &Answer) -> &str {
    answer.header("access-control-allow-origin")
}

#[tokio::test]
async fn a_preflight_is_answered_without_a_key() {
    let fal = fal().await;
    let gate = gate(&fal).await;
    for path in [PROXY, APP, "/fal-ai/flux", "/storage/upload/initiate"] {
        let answer = gate.send(preflight(path, PAGE, "POST")).await;
        assert_eq!((answer.status.as_u16(), allowed(&answer), answer.body.len()), (200, PAGE, 0), "{path}");
        assert!(answer.header("access-control-allow-methods").contains("POST"), "{path}");
        let headers = answer.header("access-control-allow-headers");
        assert!(headers.contains("x-fal-target-url") && !headers.contains("x-evil"), "{path}: {headers}");
        assert_eq!(answer.header("access-control-max-age"), "600");
        let foreign = gate.send(preflight(path, EVIL, "POST")).await;
        assert_eq!(allowed(&foreign), "", "{path}: {foreign:?}");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_12_a_page_reads_the_request_id_of_successes_and_errors() {
    let fal = fal().await;
    let gate = gate(&fal).await;
    let with_origin = |target: &str, body: String| {
        let mut request = proxied(target, body);
        request.headers_mut().insert("origin", PAGE.parse().unwrap());
        request
    };
    for (request, status) in [
        (with_origin(RUN, input().to_string()), 200),
        (with_origin("https://fal.run/fal-ai/flux", "{}".to_owned()), 200),
        (with_origin("https://fal.run/fal-ai/no", "{}".to_owned()), 403),
        (with_origin("nonsense", "{}".to_owned()), 412),
        (with_origin(RUN, "{}".to_owned()), 422),
        (asked(Method::POST, APP, &[JSON, ("origin", PAGE)], "{}"), 401),
    ] {
        let answer = gate.send(request).await;
        assert_eq!((answer.status.as_u16(), allowed(&answer)), (status, PAGE), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers");
        for name in ["x-fal-request-id", "x-fal-request-timeout-type", "x-fal-error-type", "retry-after"] {
            assert!(exposed.split(',').any(|shown| shown == name), "{name}: {exposed}");
        }
        assert!(!answer.header("x-fal-request-id").is_empty());
    }
    let same = [JSON, ("origin", "http://gate.test"), ("x-fal-target-url", RUN)];
    assert_eq!(gate.send(asked(Method::POST, PROXY, &same, input().to_string())).await.status, 200, "its own page");
}

#[tokio::test]
async fn a_page_of_another_origin_starts_no_work() {
    let fal = fal().await;
    let gate = gate(&fal).await;
    for origin in [EVIL, "null", "https://draw.example.evil", "http://draw.example", "https://draw.example:444"] {
        for path in [PROXY, APP, "/fal-ai/flux"] {
            let headers = [
                JSON,
                ("origin", origin),
                ("authorization", "Key access-id:access-secret"),
                ("x-fal-target-url", "https://fal.run/fal-ai/flux"),
            ];
            let answer = gate.send(asked(Method::POST, path, &headers, input().to_string())).await;
            let said = detail(&answer);
            assert_eq!((answer.status.as_u16(), allowed(&answer)), (403, ""), "{origin} {path}");
            assert!(said.contains("pages of this origin"), "{said}");
        }
    }
    assert!(gate.control().calls().is_empty());
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_94_files_are_uploaded_and_read_from_any_page() {
    let fal = fal().await;
    let gate = gate(&fal).await;
    let target = "https://rest.alpha.fal.ai/storage/upload/initiate";
    let initiated = gate.proxied(target, json!({ "content_type": "image/png" }).to_string()).await.json();
    let path = |url: &str| initiated[url].as_str().unwrap().strip_prefix("http://gate.test").unwrap().to_owned();
    let (upload, file) = (path("upload_url"), path("file_url"));
    let asked_first = gate.send(preflight(&upload, EVIL, "PUT")).await;
    assert_eq!((asked_first.status.as_u16(), allowed(&asked_first)), (204, "*"));
    assert!(asked_first.header("access-control-allow-methods").contains("PUT"));
    let picture = png(64, 64);
    let headers = [("origin", EVIL), ("content-type", "image/png")];
    let put = gate.send(asked(Method::PUT, &upload, &headers, picture.clone())).await;
    assert_eq!((put.status.as_u16(), allowed(&put)), (200, "*"), "{put:?}");
    let again = gate.send(asked(Method::PUT, &upload, &headers, picture.clone())).await;
    assert_eq!((again.status.as_u16(), allowed(&again)), (409, "*"));
    let got = gate.send(asked(Method::GET, &file, &[("origin", EVIL)], "")).await;
    assert_eq!((got.status.as_u16(), allowed(&got), got.body.as_ref()), (200, "*", picture.as_slice()));
    let url = initiated["file_url"].clone();
    let run = gate.proxied(RUN, input_with(json!({ "image_url": url, "sync_mode": false })).to_string()).await;
    assert_eq!(run.status, 200, "{run:?}");
    let result = run.json()["images"][0]["url"].as_str().unwrap().to_owned();
    let result = result.strip_prefix("http://gate.test").unwrap().to_owned();
    let drawn = gate.send(asked(Method::GET, &result, &[("origin", EVIL)], "")).await;
    assert_eq!((drawn.status.as_u16(), allowed(&drawn), drawn.header("content-type")), (200, "*", "image/jpeg"));
    assert_eq!(fal.connections(), 0);
}
