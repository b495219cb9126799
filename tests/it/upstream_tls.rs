//! TLS to fal: HTTP/1.1 and HTTP/2, certificates that are checked, and no plain http by accident.

use falgate::upstream::{ClientError, UpstreamClient, UpstreamSettings};
use http::{StatusCode, Version};

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{get, message, open, post, send, stack, text, upstream};

const RUN: &str = "https://fal.run/fal-ai/flux/dev";

fn trusting(fal: &FakeFal) -> UpstreamSettings {
    UpstreamSettings { ca_file: Some(fal.ca_file()), ..upstream(&fal.url()) }
}

#[tokio::test]
async fn either_version_of_http_is_spoken_as_fal_offers() {
    for (offered, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        let fal = FakeFal::https(|seen| Reply::json(200, seen.body.clone()), offered).await;
        let stack = stack(open(), trusting(&fal));
        for _ in 0..3 {
            assert_eq!(text(send(&stack, post(RUN, r#"{"a":1}"#)).await).await, r#"{"a":1}"#);
        }
        let mut cancel = post("https://queue.fal.run/fal-ai/flux/requests/abc/cancel", "");
        *cancel.method_mut() = http::Method::PUT;
        assert_eq!(send(&stack, cancel).await.status(), StatusCode::OK);
        assert!(fal.seen().iter().all(|seen| seen.version == version), "{offered:?}");
        assert_eq!(fal.connections(), 1);
    }
}

#[tokio::test]
async fn going_away_cancels_over_http2_too() {
    let fal =
        FakeFal::https(|seen| if seen.body == "1" { Reply::never() } else { Reply::json(200, "{}") }, &["h2"]).await;
    let stack = stack(open(), trusting(&fal));
    let inner = stack.clone();
    let call = tokio::spawn(async move { send(&inner, post(RUN, "1")).await });
    fal.received(1).await;
    call.abort();
    fal.cancelled().await;
    assert_eq!(send(&stack, post(RUN, "{}")).await.status(), StatusCode::OK);
    assert_eq!(fal.connections(), 1, "only the stream was reset");
}

#[tokio::test]
async fn an_unknown_certificate_is_502_and_no_key_is_sent() {
    let fal = FakeFal::https(|_| Reply::json(200, "{}"), &["http/1.1"]).await;
    let stack = stack(open(), upstream(&fal.url()));
    let answer = send(&stack, get("https://queue.fal.run/fal-ai/flux/requests/abc")).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let said = message(answer).await;
    assert!(!said.contains("localhost") && !said.to_lowercase().contains("certificate"), "{said}");
    assert!(fal.seen().is_empty());
}

#[test]
fn plain_http_needs_this_machine_and_the_switch() {
    let refused = |url: &str, allow: bool| {
        let settings = UpstreamSettings { allow_plain_loopback: allow, ..upstream(url) };
        assert_eq!(settings.faults().len(), 3);
        matches!(UpstreamClient::new(settings), Err(ClientError::Settings { .. }))
    };
    assert!(refused("http://127.0.0.1:1", false));
    assert!(refused("http://10.0.0.1:1", true));
    assert!(refused("http://fal.run", true));
    assert!(upstream("http://[::1]:1").faults().is_empty());
}

#[test]
fn a_ca_file_that_is_missing_or_empty_is_refused_at_start() {
    let at = |path: &std::path::Path| {
        let settings = UpstreamSettings { ca_file: Some(path.to_owned()), ..UpstreamSettings::default() };
        UpstreamClient::new(settings).unwrap_err().to_string()
    };
    assert!(at(std::path::Path::new("no/such/file")).contains("upstream.ca_file"));
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(at(empty.path()).contains("holds no certificate"));
}
