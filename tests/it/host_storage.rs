//! Uploads and files from their announcement to their end: conformance cases 93 to 100 for the single PUT.

use std::time::Duration;

use bytes::Bytes;
use falgate::host::HostSettings;
use falgate::host::storage::StorageSettings;
use falgate::wire::{Body, HostClass};
use futures_util::stream;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::host_desk::{Answer, Desk, ORIGIN, call, input_with, png};

async fn announced(desk: &Desk, content_type: &str) -> (String, String) {
    let reply = desk.initiate(&json!({ "content_type": content_type, "file_name": "my cat.png" })).await.json();
    (reply["upload_url"].as_str().unwrap().to_owned(), reply["file_url"].as_str().unwrap().to_owned())
}

fn limited(change: impl FnOnce(&mut StorageSettings)) -> HostSettings {
    let mut settings = HostSettings::default();
    change(&mut settings.storage);
    settings
}

#[tokio::test]
async fn case_93_an_announced_upload_gets_two_absolute_urls() {
    let desk = Desk::open().await;
    for path in [
        "/storage/upload/initiate",
        "/storage/upload/initiate?storage_type=fal-cdn-v3",
        "/storage/upload/initiate?storage_type=gcs",
    ] {
        let body = json!({ "content_type": "image/png", "file_name": "1795379910258.png" });
        let answer = desk.send(call(HostClass::Rest, &Method::POST, path, body.to_string())).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
        let reply = answer.json();
        let file_url = reply["file_url"].as_str().unwrap();
        assert!(file_url.starts_with(&format!("{ORIGIN}/files/")) && file_url.ends_with(".png"), "{reply}");
        assert!(reply["upload_url"].as_str().unwrap().starts_with(&format!("{file_url}?upload_token=")), "{reply}");
        assert_eq!(answer.note.unwrap().kind, "initiate");
    }
    assert_eq!(desk.initiate(&json!({})).await.status, 200);
}

#[tokio::test]
async fn an_odd_announcement_is_a_422() {
    let desk = Desk::open().await;
    for odd in
        [json!({ "content_type": "a\r\nb: c" }), json!({ "content_type": "png" }), json!({ "file_name": 5 }), json!([])]
    {
        assert_eq!(desk.initiate(&odd).await.status, 422, "{odd}");
    }
    let huge = json!({ "file_name": "x".repeat(100_000) });
    assert_eq!(desk.initiate(&huge).await.status, 413);
}

#[tokio::test]
async fn case_94_a_page_uploads_once_and_reads_as_often_as_it_likes() {
    let desk = Desk::open().await;
    let (upload, file) = announced(&desk, "image/png").await;
    let preflight = desk.file(Method::OPTIONS, &upload, "").await;
    assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-origin")), (204, "*"));
    assert!(preflight.header("access-control-allow-methods").contains("PUT"));
    let put = desk.file(Method::PUT, &upload, png(8, 8)).await;
    assert_eq!((put.status.as_u16(), put.header("access-control-allow-origin")), (200, "*"));
    assert_eq!((put.header("content-type"), put.body.len()), ("", 0));
    let again = desk.file(Method::PUT, &upload, "other").await;
    assert_eq!((again.status.as_u16(), again.header("access-control-allow-origin")), (409, "*"));
    for _ in 0..2 {
        let got = desk.file(Method::GET, &file, "").await;
        assert_eq!(
            (got.status.as_u16(), got.header("content-type"), got.body.clone()),
            (200, "image/png", Bytes::from(png(8, 8)))
        );
    }
}

#[tokio::test]
async fn a_file_is_served_so_that_it_can_do_no_harm() {
    let desk = Desk::open().await;
    for (content_type, manner) in
        [("image/webp", "inline"), ("text/html", "attachment"), ("image/svg+xml", "attachment")]
    {
        let (upload, file) = announced(&desk, content_type).await;
        desk.file(Method::PUT, &upload, "<script>").await;
        let got = desk.file(Method::GET, &file, "").await;
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("content-security-policy"), "default-src 'none'; sandbox");
        assert_eq!(got.header("content-disposition"), format!("{manner}; filename=\"my_cat.png\""));
        assert!(
            got.header("cache-control").starts_with("public, max-age=3")
                && got.header("cache-control").ends_with("immutable")
        );
        let head = desk.file(Method::HEAD, &file, "").await;
        assert_eq!((head.status.as_u16(), head.header("content-length"), head.body.len()), (200, "8", 0));
    }
}

#[tokio::test]
async fn an_upload_without_a_right_token_is_refused() {
    let desk = Desk::open().await;
    let (upload, file) = announced(&desk, "image/png").await;
    let (_, other) = announced(&desk, "image/png").await;
    let token = upload.split_once('?').unwrap().1;
    for url in [
        file.clone(),
        format!("{file}?upload_token="),
        format!("{file}?upload_token=a.b.c"),
        format!("{other}?{token}"),
    ] {
        let answer = desk.file(Method::PUT, &url, "x").await;
        assert_eq!((answer.status.as_u16(), answer.json()["detail"].is_string()), (403, true), "{url}");
    }
    let stranger = Desk::open().await;
    assert_eq!(stranger.file(Method::PUT, &upload, "x").await.status, 403, "a token of another start");
    assert_eq!(desk.file(Method::PUT, &upload, "x").await.status, 200);
}

#[tokio::test]
async fn unknown_files_and_methods_are_told_apart() {
    let desk = Desk::open().await;
    let unknown = format!("/files/{}.png", "0".repeat(32));
    for (method, path, status) in [
        (Method::GET, unknown.as_str(), 404),
        (Method::HEAD, &unknown, 404),
        (Method::GET, "/files/", 404),
        (Method::GET, "/files/../secret", 404),
        (Method::GET, "/files/0/1", 404),
        (Method::POST, &unknown, 405),
        (Method::DELETE, &unknown, 405),
    ] {
        let answer = desk.file(method.clone(), path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.json()["detail"].is_string(), "{method} {path}");
    }
}

#[tokio::test]
async fn an_upload_over_the_limit_is_a_413_and_may_be_repeated() {
    let desk = Desk::with(limited(|storage| storage.max_file_bytes = 1000.try_into().unwrap())).await;
    let (upload, file) = announced(&desk, "image/png").await;
    assert_eq!(desk.file(Method::PUT, &upload, vec![1; 1001]).await.status, 413);
    let endless = stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![1; 100])))));
    assert_eq!(desk.file(Method::PUT, &upload, Body::new(StreamBody::new(endless))).await.status, 413);
    assert_eq!(desk.file(Method::PUT, &upload, vec![1; 1000]).await.status, 200);
    assert_eq!(desk.file(Method::GET, &file, "").await.body.len(), 1000);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_may_be_repeated() {
    let desk = Desk::open().await;
    let (upload, file) = announced(&desk, "image/png").await;
    let broken = stream::iter([Ok(Frame::data(Bytes::from("half"))), Err(std::io::Error::other("gone"))]);
    assert_eq!(desk.file(Method::PUT, &upload, Body::new(StreamBody::new(broken))).await.status, 400);
    assert_eq!(desk.file(Method::GET, &file, "").await.status, 404);
    assert_eq!(desk.file(Method::PUT, &upload, "whole").await.status, 200);
}

#[tokio::test]
async fn uploads_under_way_never_fill_more_than_their_memory() {
    let desk = Desk::with(limited(|storage| {
        storage.max_file_bytes = 4096.try_into().unwrap();
        storage.uploading_bytes = 4096.try_into().unwrap();
    }))
    .await;
    let (slow_upload, _) = announced(&desk, "image/png").await;
    let (upload, _) = announced(&desk, "image/png").await;
    let path = slow_upload.strip_prefix(ORIGIN).unwrap();
    let first = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"one byte is enough")))]);
    let half = Body::new(StreamBody::new(futures_util::StreamExt::chain(first, stream::pending())));
    let request = Request::put(path).body(half).unwrap();
    let mut slow = Box::pin(desk.files.clone().oneshot(request));
    assert!(futures_util::FutureExt::now_or_never(&mut slow).is_none());
    assert_eq!(desk.file(Method::PUT, &upload, vec![1; 4096]).await.status, 429);
    drop(slow);
    assert_eq!(desk.file(Method::PUT, &upload, vec![1; 4096]).await.status, 200);
}

#[tokio::test]
async fn case_95_an_uploaded_file_is_run_without_a_network() {
    // Names know nobody: any look-up would fail.
    let desk = Desk::open().await;
    let (upload, file) = announced(&desk, "image/png").await;
    desk.file(Method::PUT, &upload, png(64, 64)).await;
    assert_eq!(desk.run(&input_with(json!({ "image_url": file }))).await.status, 200);
    let result = desk.run(&input_with(json!({ "image_url": file, "sync_mode": false }))).await.json();
    assert_eq!(desk.run(&input_with(json!({ "image_url": result["images"][0]["url"] }))).await.status, 200);
    let gone = format!("{ORIGIN}/files/{}.png", "0".repeat(32));
    let fault = desk.run(&input_with(json!({ "image_url": gone }))).await.fault();
    assert!(fault["msg"].as_str().unwrap().contains("the file has expired"), "{fault}");
    let foreign = gone.replace(ORIGIN, "https://evil.example");
    let fault = desk.run(&input_with(json!({ "image_url": foreign }))).await.fault();
    assert!(fault["msg"].as_str().unwrap().contains("cannot be reached"), "{fault}");
}

/// Where DNS leads fal's names to a gate, a client uploads to one name and runs at another.
#[tokio::test]
async fn case_95_an_uploaded_file_is_known_by_its_id_under_any_name_of_the_gate() {
    let desk = Desk::open().await;
    let (upload, file) = announced(&desk, "image/png").await;
    desk.file(Method::PUT, &upload, png(64, 64)).await;
    for name in ["https://rest.alpha.fal.ai", "https://rest.draw.example", "http://127.0.0.1:8787"] {
        let url = file.replace(ORIGIN, name);
        assert_eq!(desk.run(&input_with(json!({ "image_url": url }))).await.status, 200, "{url}");
    }
    let elsewhere = file.replace(&format!("{ORIGIN}/files/"), "https://rest.draw.example/other/files/");
    assert_eq!(desk.run(&input_with(json!({ "image_url": elsewhere }))).await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn case_99_a_lifecycle_header_shortens_a_files_life() {
    let desk = Desk::open().await;
    let body = json!({ "content_type": "image/png", "file_name": "a.png" }).to_string();
    let mut request = call(HostClass::Rest, &Method::POST, "/storage/upload/initiate", body);
    let lifecycle = r#"{"expiration_duration_seconds":60}"#;
    request.headers_mut().insert("x-fal-object-lifecycle", lifecycle.parse().unwrap());
    let reply: Value = desk.send(request).await.json();
    let (upload, file) = (reply["upload_url"].as_str().unwrap(), reply["file_url"].as_str().unwrap());
    assert_eq!(desk.file(Method::PUT, upload, "x").await.status, 200);
    tokio::time::advance(Duration::from_secs(59)).await;
    let got: Answer = desk.file(Method::GET, file, "").await;
    assert_eq!((got.status.as_u16(), got.header("cache-control")), (200, "public, max-age=1, immutable"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(desk.file(Method::GET, file, "").await.status, 404);
}

#[tokio::test]
async fn case_100_what_is_no_picture_is_stored_but_not_run() {
    let desk = Desk::open().await;
    let (upload, file) = announced(&desk, "text/plain").await;
    assert_eq!(desk.file(Method::PUT, &upload, "hello").await.status, 200);
    let fault = desk.run(&input_with(json!({ "image_url": file }))).await.fault();
    assert_eq!(fault["type"], "image_load_error");
}

#[tokio::test]
async fn case_98_a_token_uploads_files_without_an_announcement() {
    let desk = Desk::open().await;
    let ask = call(HostClass::Rest, &Method::POST, "/storage/auth/token?storage_type=fal-cdn-v3", "{}");
    let token = desk.send(ask).await.json();
    assert_eq!((&token["token_type"], &token["base_url"]), (&json!("Bearer"), &json!(ORIGIN)));
    assert!(token["expires_at"].as_str().unwrap().ends_with("+00:00"), "{token}");
    let bearer = format!("Bearer {}", token["token"].as_str().unwrap());
    let upload = |authorization: &str, path: &str| {
        let request = Request::post(path).header("authorization", authorization).header("content-type", "image/png");
        let request = request.header("x-fal-file-name", "my cat.png").body(Body::from(png(64, 64))).unwrap();
        desk.files.clone().oneshot(request)
    };
    let mut urls = Vec::new();
    for _ in 0..2 {
        let answer = Answer::read(upload(&bearer, "/files/upload").await.unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        urls.push(answer.json()["access_url"].as_str().unwrap().to_owned());
    }
    assert_ne!(urls[0], urls[1], "each upload is a file of its own");
    let file = desk.file(Method::GET, &urls[0], "").await;
    assert_eq!((file.status.as_u16(), file.header("content-type")), (200, "image/png"));
    assert_eq!(desk.run(&input_with(json!({ "image_url": urls[0] }))).await.status, 200);
    for wrong in ["", "Bearer x.y.z", "Key id:secret"] {
        let answer = Answer::read(upload(wrong, "/files/upload").await.unwrap()).await;
        assert_eq!(answer.status, 403, "{wrong}");
        assert!(answer.json()["detail"].is_string());
    }
    let parts = Answer::read(upload(&bearer, "/files/upload/multipart").await.unwrap()).await;
    assert_eq!(
        (parts.status.as_u16(), parts.json()["detail"].as_str()),
        (501, Some("this gate takes a file in one piece, not in parts"))
    );
}
