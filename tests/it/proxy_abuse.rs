//! Headers and framing that would confuse a proxy: what reaches fal is always one plain request.

use falgate::wire::Body;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{CANARY, open_stack, post, request, send};
use crate::support::raw_fal::{RawFal, Then};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";

#[tokio::test]
async fn fal_sees_a_short_known_list_of_headers_and_one_of_each() {
    let fal = RawFal::start(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Then::KeepOpen).await;
    let mut request = post(RUN, "{}");
    for (name, value) in [
        ("host", "evil.test"),
        ("connection", "authorization, x-fal-runner-hint, content-length, close"),
        ("x-fal-runner-hint", "gone"),
        ("content-length", "999"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers"),
        ("trailer", "authorization"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eDp5"),
        ("cookie", "session=1"),
        ("authorization", "Bearer mine"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x_forwarded_for", "1.2.3.4"),
        ("x-forwarded-host", "evil.test"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("origin", "https://page.test"),
        ("referer", "https://page.test/"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("content-encoding", "gzip"),
        ("range", "bytes=0-1"),
    ] {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        request.headers_mut().append(name, HeaderValue::from_static(value));
    }
    assert_eq!(send(&open_stack(&fal.url()), request).await.status(), StatusCode::OK);
    let head = fal.heads().remove(0);
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /fal-ai/flux/dev HTTP/1.1");
    lines.sort_unstable();
    let proxy = concat!("x-fal-client-proxy: falgate/", env!("CARGO_PKG_VERSION"));
    let (host, key) = (fal.url().replace("http://", "host: "), format!("authorization: Key {CANARY}"));
    let wanted = [
        "accept-encoding: identity",
        "accept: application/json",
        &key,
        "content-length: 2",
        "content-type: application/json",
        &host,
        proxy,
    ];
    assert_eq!(lines, wanted);
}

#[tokio::test]
async fn a_method_that_echoes_never_meets_the_key() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    for method in ["TRACE", "CONNECT", "DEBUG", "GET\u{2d}X"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let answer = send(&open_stack(&fal.url()), request(method, RUN, Body::empty())).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_tells_nobody_where_to() {
    let other = FakeFal::http(|_| Reply::json(200, "{}")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/steal", other.url());
        let fal = FakeFal::http(move |_| Reply::json(status, "{}").header("location", &location)).await;
        let answer = send(&open_stack(&fal.url()), post(RUN, "{}")).await;
        assert_eq!(answer.status().as_u16(), status);
        assert!(!answer.headers().contains_key("location"));
        assert_eq!(fal.seen().len(), 1);
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn no_text_of_a_caller_is_dialled() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let evil = FakeFal::http(|_| Reply::json(200, "{}")).await;
    let stack = open_stack(&fal.url());
    let at = evil.url().replace("http://", "");
    for target in [
        format!("http://{at}/fal-ai/flux"),
        format!("https://{at}/fal-ai/flux"),
        format!("https://fal.run@{at}/fal-ai/flux"),
        format!("https://fal.run\\@{at}/fal-ai/flux"),
        format!("https://fal.run/@{at}/fal-ai/flux"),
        format!("https://fal.run//{at}/fal-ai/flux"),
        format!("https://fal.run/fal-ai/flux?@{at}"),
        format!("//{at}/fal-ai/flux"),
    ] {
        let mut request = post(&target, "{}");
        request.headers_mut().insert("host", HeaderValue::from_str(&at).unwrap());
        *request.uri_mut() = format!("http://{at}/api/fal/proxy").parse().unwrap();
        send(&stack, request).await;
    }
    assert_eq!(evil.connections(), 0);
    let own = fal.url().replace("http://", "");
    assert!(fal.seen().iter().all(|seen| seen.header("host") == Some(own.as_str())));
}
