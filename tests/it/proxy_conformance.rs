//! The proxy cases of the protocol (docs/PROTOCOL.md), by number.

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;

use falgate::wire::{Body, EndpointPattern, REQUEST_ID, RequestId};

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{CANARY, get, message, open, open_stack, post, request, send, stack, text, upstream};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";

async fn ok() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, r#"{"ok":true}"#)).await
}

#[tokio::test]
async fn case_1_a_post_without_a_target_is_400() {
    let fal = ok().await;
    for target in ["", "x"] {
        let mut request = post(RUN, "{}");
        request.headers_mut().remove("x-fal-target-url");
        if target.is_empty() {
            request.headers_mut().insert("x-fal-target-url", HeaderValue::from_static(""));
        }
        let answer = send(&open_stack(&fal.url()), request).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(message(answer).await.contains("x-fal-target-url"));
    }
    assert!(fal.seen().is_empty());
}

#[tokio::test]
async fn case_2_a_target_that_is_not_fals_is_412_and_never_dialled() {
    let fal = ok().await;
    let stack = open_stack(&fal.url());
    for target in [
        "not a url",
        "https://a:b@fal.run/x",
        "http://fal.run/x",
        "https://fal.run:1/x",
        "https://fal.run.evil/x",
        "https://notfal.run/x",
        "https://evil/?fal.ai",
    ] {
        let answer = send(&stack, post(target, "{}")).await;
        assert_eq!(answer.status(), StatusCode::PRECONDITION_FAILED, "{target}");
        message(answer).await;
    }
    let mut request = post(RUN, "{}");
    request.headers_mut().insert("x-fal-target-url", HeaderValue::from_bytes(b"https://fal.run/\xff").unwrap());
    assert_eq!(send(&stack, request).await.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(fal.connections(), 0);
    assert_eq!(send(&stack, post(RUN, "{}")).await.status(), StatusCode::OK, "the gate stays up");
}

#[tokio::test]
async fn case_3_other_methods_are_405_with_allow() {
    let fal = ok().await;
    for method in ["DELETE", "PATCH", "HEAD", "TRACE", "CONNECT", "PURGE", "OPTIONS", "post"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(&open_stack(&fal.url()), request(method, RUN, Body::from("{}"))).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers()["allow"], "GET, POST, PUT");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_4_a_body_that_is_not_json_is_415() {
    let fal = ok().await;
    for kind in [Some("text/plain"), Some("multipart/form-data; boundary=x"), None] {
        let mut request = post(RUN, "{}");
        request.headers_mut().remove("content-type");
        if let Some(kind) = kind {
            request.headers_mut().insert("content-type", HeaderValue::from_static(kind));
        }
        let answer = send(&open_stack(&fal.url()), request).await;
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        message(answer).await;
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_5_a_cancel_without_a_body_is_forwarded() {
    let fal = FakeFal::http(|_| Reply::json(202, r#"{"status":"CANCELLATION_REQUESTED"}"#)).await;
    let target = "https://queue.fal.run/fal-ai/flux/requests/abc/cancel";
    let answer = send(&open_stack(&fal.url()), request(Method::PUT, target, Body::empty())).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let seen = fal.only();
    assert_eq!((seen.method.as_str(), seen.path_and_query.as_str()), ("PUT", "/fal-ai/flux/requests/abc/cancel"));
    assert!(seen.body.is_empty());
    assert_eq!(seen.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn case_6_a_get_is_forwarded_without_a_body() {
    let fal = ok().await;
    let target = "https://queue.fal.run/fal-ai/flux/requests/abc/status?logs=1";
    let answer = send(&open_stack(&fal.url()), request(Method::GET, target, Body::from("{}"))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = fal.only();
    assert_eq!(seen.path_and_query, "/fal-ai/flux/requests/abc/status?logs=1");
    assert!(seen.body.is_empty());
    assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), (None, None));
}

#[tokio::test]
async fn case_7_a_422_stays_a_422_with_its_body() {
    let body = r#"{"detail":[{"loc":["body","prompt"],"msg":"Field required","type":"missing"}]}"#;
    let fal = FakeFal::http(move |_| Reply::json(422, body)).await;
    let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(text(answer).await, body);
}

#[tokio::test]
async fn case_8_a_202_stays_a_202() {
    let fal = FakeFal::http(|_| Reply::json(202, r#"{"status":"IN_QUEUE","queue_position":0}"#)).await;
    let target = "https://queue.fal.run/fal-ai/flux/requests/abc/status";
    assert_eq!(send(&open_stack(&fal.url()), get(target)).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn case_9_the_callers_authorization_never_takes_the_place_of_the_key() {
    let fal = ok().await;
    for mine in ["Key x:y", "Bearer mine"] {
        let mut request = post(RUN, "{}");
        request.headers_mut().append("authorization", HeaderValue::from_static(mine));
        request.headers_mut().append("authorization", HeaderValue::from_static("Key z:z"));
        send(&open_stack(&fal.url()), request).await;
    }
    for seen in fal.seen() {
        assert_eq!(seen.header("authorization"), Some(format!("Key {CANARY}").as_str()));
    }
}

#[tokio::test]
async fn case_10_no_cookie_and_no_foreign_length_or_coding_comes_back() {
    let fal = FakeFal::http(|seen| {
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        Reply::json(200, r#"{"ok":true}"#)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("access-control-allow-origin", "*")
            .header("x-powered-by", "x")
            .header("server", "y")
    })
    .await;
    let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
    for gone in
        ["set-cookie", "content-encoding", "content-length", "access-control-allow-origin", "x-powered-by", "server"]
    {
        assert!(!answer.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(11), "the server here writes its own length");
}

#[tokio::test]
async fn case_10_a_coding_sent_unasked_stays_with_its_bytes() {
    let fal = FakeFal::http(|_| Reply::json(200, &b"\x1f\x8b gzipped"[..]).header("content-encoding", "gzip")).await;
    let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), &b"\x1f\x8b gzipped"[..]);
}

#[tokio::test]
async fn case_11_fals_request_headers_pass_and_the_proxys_do_not() {
    let fal = ok().await;
    let passing = [
        ("x-fal-queue-priority", "low"),
        ("x-fal-runner-hint", "here"),
        ("x-fal-request-timeout", "5.0"),
        ("x-fal-object-lifecycle", "{}"),
        ("x-fal-object-lifecycle-preference", "{}"),
    ];
    let mut request = post(RUN, "{}");
    for (name, value) in passing {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    send(&open_stack(&fal.url()), request).await;
    let seen = fal.only();
    for (name, value) in passing {
        assert_eq!(seen.header(name), Some(value));
    }
    assert_eq!(seen.header("x-fal-target-url"), None);
}

#[tokio::test]
async fn case_12_and_106_the_request_id_is_on_every_answer() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}").header("x-fal-request-id", "from-fal")).await;
    let stack = open_stack(&fal.url());
    let with_id = |mut request: Request<Body>| {
        request.extensions_mut().insert(RequestId::new("from-gate").unwrap());
        request
    };
    assert_eq!(send(&stack, with_id(post(RUN, "{}"))).await.headers()[REQUEST_ID], "from-fal");
    assert_eq!(send(&stack, with_id(post("nonsense", "{}"))).await.headers()[REQUEST_ID], "from-gate");
}

#[tokio::test]
async fn case_15_every_path_below_the_route_is_the_same_route() {
    let fal = ok().await;
    for path in ["/api/fal/proxy", "/api/fal/proxy/anything/at?all=1", "/api/_fal/proxy"] {
        let mut request = post(RUN, "{}");
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(send(&open_stack(&fal.url()), request).await.status(), StatusCode::OK);
    }
    assert!(fal.seen().iter().all(|seen| seen.path_and_query == "/fal-ai/flux/dev"));
}

#[tokio::test]
async fn case_16_every_host_of_fals_is_understood() {
    let fal = ok().await;
    let stack = open_stack(&fal.url());
    let token = r#"{"allowed_apps":["flux"],"token_expiration":120}"#;
    for (target, body, path) in [
        ("https://rest.alpha.fal.ai/tokens/", token, "/tokens/"),
        ("https://rest.fal.ai/tokens/", token, "/tokens/"),
        ("https://fal.run/fal-ai/flux", "{}", "/fal-ai/flux"),
        ("https://queue.fal.run/fal-ai/flux", "{}", "/fal-ai/flux"),
        ("https://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai/", "{}", "/110602490/lcm-sd15-i2i"),
    ] {
        assert_eq!(send(&stack, post(target, body)).await.status(), StatusCode::OK, "{target}");
        assert_eq!(fal.seen().last().unwrap().path_and_query, path);
    }
}

#[tokio::test]
async fn case_17_a_path_that_decodes_to_another_app_is_refused() {
    let fal = ok().await;
    for path in
        ["fal-ai%2fflux", "fal-ai/flux/../../me/mine", "fal-ai/%2e%2e/me/mine", "fal-ai/flux/..%2f..%2fme", "me/mine"]
    {
        let answer = send(&open_stack(&fal.url()), post(&format!("https://fal.run/{path}"), "{}")).await;
        assert!(answer.status().is_client_error(), "{path}");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_18_the_oldest_client_initiates_and_runs() {
    let fal = ok().await;
    let stack = open_stack(&fal.url());
    let initiate = post("https://rest.alpha.fal.ai/storage/upload/initiate", r#"{"content_type":"image/png"}"#);
    assert_eq!(send(&stack, initiate).await.status(), StatusCode::OK);
    let run = post("https://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai/", "{}");
    assert_eq!(send(&stack, run).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn case_19_a_page_that_polls_is_served_over_one_connection() {
    let fal = ok().await;
    let stack = open_stack(&fal.url());
    for _ in 0..40 {
        let answer = send(&stack, get("https://queue.fal.run/fal-ai/flux/requests/abc/status")).await;
        assert_eq!(text(answer).await, r#"{"ok":true}"#);
    }
    assert_eq!((fal.seen().len(), fal.connections()), (40, 1));
}

#[tokio::test]
async fn case_101_and_102_refusals_are_json_and_no_refusal_asks_for_a_retry() {
    let fal = ok().await;
    let mut settings = open();
    settings.targets.endpoints = vec![EndpointPattern::parse("fal-ai/flux").unwrap()];
    let stack = stack(settings, upstream(&fal.url()));
    for (target, body) in [
        ("https://fal.run/me/mine", "{}"),
        ("https://rest.fal.ai/billing", "{}"),
        ("https://queue.fal.run/fal-ai/flux?fal_webhook=x", "{}"),
        ("https://rest.fal.ai/tokens/", r#"{"allowed_apps":["other"]}"#),
        ("https://rest.fal.ai/tokens/", "nonsense"),
        ("https://queue.fal.run/fal-ai/flux/requests/abc/status", "{}"),
    ] {
        let answer = send(&stack, post(target, body)).await;
        assert!(answer.status().is_client_error() && answer.status() != StatusCode::TOO_MANY_REQUESTS, "{target}");
        assert!(!message(answer).await.is_empty());
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_107_a_proxy_behind_a_proxy_names_only_itself() {
    let fal = ok().await;
    let mut request = post(RUN, "{}");
    let other = HeaderValue::from_static("@fal-ai/server-proxy/express");
    request.headers_mut().insert("x-fal-client-proxy", other);
    send(&open_stack(&fal.url()), request).await;
    let seen = fal.only();
    assert!(seen.header("x-fal-client-proxy").unwrap().starts_with("falgate/"));
    assert_eq!(seen.header("x-fal-target-url"), None);
}
