//! Runs as unmodified clients make them: conformance cases 20 to 38 at the service.

use std::num::NonZeroUsize;

use falgate::engine::{
    Engine, EngineSettings, FakeFault, FakePart, Job, Lane, OpenError, Order, Picture, Posterior, SafetyCheck,
};
use falgate::host::{HostService, HostSettings};
use falgate::wire::{Body, Door, HostClass, PlainPath};
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt as _;

use crate::host_desk::{APP, Answer, Desk, ORIGIN, admitted, call, data_uri, first_picture, input, input_with, png};

fn a_job() -> Job {
    Job {
        picture: Picture::new(64, 64, vec![1; 64 * 64 * 3]).unwrap(),
        prompt: String::new(),
        strength: 0.5,
        steps: 1,
        guidance_scale: 1.0,
        seeds: vec![1],
        posterior: Posterior::Sample,
        start_by: None,
        lane: Lane::new(),
        order: Order::InTurn,
        safety: SafetyCheck::Skipped,
    }
}

#[tokio::test]
async fn case_20_and_31_and_38_a_run_gives_the_apps_output_as_json() {
    let answer = Desk::open().await.run(&input()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    let output = answer.json();
    let image = &output["images"][0];
    assert!(image["url"].as_str().unwrap().starts_with("data:image/jpeg;base64,/9j/"));
    assert_eq!(
        (&image["width"], &image["height"], &image["content_type"]),
        (&json!(64), &json!(64), &json!("image/jpeg"))
    );
    assert_eq!(output["num_inference_steps"], 4);
    assert_eq!((&output["nsfw_content_detected"], &output["has_nsfw_concepts"]), (&json!([false]), &json!([false])));
    for part in ["inference", "decode", "queue", "encode", "total"] {
        let seconds = output["timings"][part].as_f64().unwrap();
        assert!((0.0..60.0).contains(&seconds), "{part} is {seconds}");
    }
    let note = answer.note.unwrap();
    assert_eq!((note.endpoint.as_deref(), note.kind, note.route), (Some("fal-ai/lcm-sd15-i2i"), "run", "engine"));
}

#[tokio::test]
async fn case_21_22_23_every_spelling_of_the_app_is_answered() {
    let desk = Desk::open().await;
    let want = desk.run(&input()).await.json()["images"].clone();
    for path in ["/110602490-lcm-sd15-i2i", "/110602490/lcm-sd15-i2i", "/fal-ai/lcm-sd15-i2i/", "/fal-ai/lcm-sd15-i2i"]
    {
        let answer = desk.send(call(HostClass::Run, &Method::POST, path, input().to_string())).await;
        assert_eq!(answer.json()["images"], want, "{path}");
    }
    let legacy = PlainPath {
        class: HostClass::Run,
        legacy_label: Some("110602490-lcm-sd15-i2i"),
        method: &Method::POST,
        path_and_query: "/",
        door: Door::Http,
    };
    assert_eq!(desk.send(admitted(&legacy, input().to_string().into())).await.json()["images"], want);
}

#[tokio::test]
async fn case_24_a_missing_prompt_is_a_422_that_names_it() {
    let answer = Desk::open().await.run(&json!({ "image_url": "data:," })).await;
    assert_eq!(answer.fault(), json!({ "loc": ["body", "prompt"], "msg": "Field required", "type": "missing" }));
    assert_eq!(answer.header("x-fal-billable-units"), "0");
}

#[tokio::test]
async fn case_25_bounds_are_kept_and_loose_types_taken() {
    let desk = Desk::open().await;
    let fault = desk.run(&input_with(json!({ "strength": 2 }))).await.fault();
    assert_eq!(
        fault,
        json!({ "loc": ["body", "strength"], "msg": "Input should be less than or equal to 1",
                "type": "less_than_equal", "input": 2, "ctx": { "le": 1.0 } })
    );
    let loose = input_with(
        json!({ "num_inference_steps": "2", "sync_mode": 1, "strength": "0.5", "seed": "7", "num_images": 2.0 }),
    );
    let output = desk.run(&loose).await.json();
    assert_eq!((&output["num_inference_steps"], &output["seed"]), (&json!(2), &json!(7)));
    assert_eq!(output["images"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn case_25_all_faults_are_told_at_once() {
    let wrong = json!({ "image_url": 5, "strength": -1, "num_images": 9, "seed": "x", "sync_mode": "maybe", "mask_url": "https://a/b" });
    let detail = Desk::open().await.run(&wrong).await.json()["detail"].clone();
    let kinds: Vec<&str> = detail.as_array().unwrap().iter().map(|fault| fault["type"].as_str().unwrap()).collect();
    let want = [
        "missing",
        "string_type",
        "greater_than_equal",
        "int_parsing",
        "less_than_equal",
        "bool_parsing",
        "feature_not_supported",
    ];
    assert_eq!(kinds, want);
}

#[tokio::test]
async fn case_26_unknown_fields_and_nulls_are_no_fault() {
    let odd = input_with(json!({
        "model_name": "x", "image_size": { "width": 1 }, "_force_msgpack": {}, "seed": null, "strength": null,
        "negative_prompt": null, "num_images": null, "request_id": null, "mask_url": null, "enable_safety_checks": null
    }));
    assert_eq!(Desk::open().await.run(&odd).await.status, 200);
}

#[tokio::test]
async fn case_27_an_unreachable_or_private_url_is_a_422_that_names_it_without_its_query() {
    let desk = Desk::open().await;
    for (url, shown) in [
        ("https://nowhere.example/cat.png?sig=secret", "https://nowhere.example/cat.png"),
        ("http://127.0.0.1/cat.png?sig=secret", "http://127.0.0.1/cat.png"),
        ("http://[::1]/cat.png", "http://[::1]/cat.png"),
        ("http://169.254.169.254/latest/meta-data", "http://169.254.169.254/latest/meta-data"),
    ] {
        let fault = desk.run(&input_with(json!({ "image_url": url }))).await.fault();
        let want = format!("Could not load image from url: {shown} (it cannot be reached)");
        assert_eq!((&fault["msg"], &fault["loc"]), (&json!(want), &json!(["body", "image_url"])));
        assert_eq!(fault["type"], "file_download_error");
    }
}

#[tokio::test]
async fn case_28_line_breaks_in_base64_and_odd_sizes_are_taken() {
    let desk = Desk::open().await;
    let mut uri = data_uri("image/png", &png(700, 500));
    for at in (60..uri.len()).step_by(77).rev() {
        uri.insert_str(at, "\r\n");
    }
    let answer = desk.run(&input_with(json!({ "image_url": uri }))).await;
    assert_eq!(first_picture(&answer).dimensions(), (700, 500));
}

#[tokio::test]
async fn case_29_a_picture_comes_inline_or_at_a_url_that_loads_without_a_key() {
    let desk = Desk::open().await;
    let output = desk.run(&input_with(json!({ "sync_mode": false, "format": "png" }))).await.json();
    let image = &output["images"][0];
    let url = image["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{ORIGIN}/files/")) && url.ends_with(".png"), "{url}");
    let file = desk.file(Method::GET, url, "").await;
    assert_eq!((file.status.as_u16(), file.header("content-type")), (200, "image/png"));
    assert_eq!(file.header("access-control-allow-origin"), "*");
    assert_eq!(image["file_size"], file.body.len());
    assert_eq!(image::load_from_memory(&file.body).unwrap().width(), 64);
}

#[tokio::test]
async fn case_30_the_request_id_is_echoed_and_empty_without_one() {
    let desk = Desk::open().await;
    assert_eq!(desk.run(&input_with(json!({ "request_id": "b1" }))).await.json()["request_id"], "b1");
    assert_eq!(desk.run(&input()).await.json()["request_id"], "");
}

#[tokio::test]
async fn case_32_a_seed_gives_its_picture_again_and_a_random_one_is_told() {
    let desk = Desk::open().await;
    let first = desk.run(&input()).await.json();
    assert_eq!(first["seed"], 42);
    assert_eq!(desk.run(&input()).await.json()["images"], first["images"]);
    let random = desk.run(&input_with(json!({ "seed": null }))).await.json();
    let again = desk.run(&input_with(json!({ "seed": random["seed"] }))).await.json();
    assert_eq!(again["images"], random["images"]);
    assert_ne!(random["images"], first["images"]);
}

#[tokio::test]
async fn case_32_several_pictures_have_the_seeds_after_the_first() {
    let desk = Desk::open().await;
    let three = desk.run(&input_with(json!({ "num_images": 3, "seed": 10 }))).await.json();
    let third = desk.run(&input_with(json!({ "seed": 12 }))).await.json();
    assert_eq!(three["images"][2], third["images"][0]);
    assert_eq!(three["nsfw_content_detected"], json!([false, false, false]));
}

#[tokio::test]
async fn case_34_a_full_queue_is_a_429() {
    let desk = Desk::open().await;
    desk.control.hold(FakePart::Encode);
    let running = desk.engine.submit(a_job()).unwrap();
    desk.control.called(FakePart::Encode, 1).await;
    let waiting = desk.engine.submit(a_job()).unwrap();
    let answer = desk.run(&input()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
    assert_eq!(answer.header("x-fal-needs-retry"), "true");
    assert!(answer.json()["detail"].is_string() && answer.json()["message"].is_string());
    desk.control.release(FakePart::Encode);
    running.await.unwrap();
    waiting.await.unwrap();
    assert_eq!(desk.run(&input()).await.status, 200);
}

#[tokio::test]
async fn case_34_more_runs_than_the_bound_are_refused_before_their_bodies_are_read() {
    let settings = HostSettings { runs_at_once: NonZeroUsize::MIN, ..HostSettings::default() };
    let desk = Desk::with(settings).await;
    desk.control.hold(FakePart::Encode);
    let first = tokio::spawn({
        let desk = desk.clone();
        async move { desk.run(&input()).await }
    });
    desk.control.called(FakePart::Encode, 1).await;
    assert_eq!(desk.run(&input()).await.status, 429);
    desk.control.release(FakePart::Encode);
    assert_eq!(first.await.unwrap().status, 200);
}

/// A body that sends so many bytes, and then nothing.
fn half_sent(bytes: usize) -> Body {
    use futures_util::StreamExt as _;
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(http_body::Frame::data(vec![b'{'; bytes].into()))]);
    Body::new(http_body_util::StreamBody::new(first.chain(futures_util::stream::pending())))
}

#[tokio::test]
async fn case_34_bodies_never_fill_more_than_their_memory() {
    let (max_body_bytes, bodies_bytes) = (65_536.try_into().unwrap(), 65_536.try_into().unwrap());
    let desk = Desk::with(HostSettings { max_body_bytes, bodies_bytes, ..HostSettings::default() }).await;
    // Who announces much and sends little keeps nobody out.
    let mut waits = Box::pin(desk.send(call(HostClass::Run, &Method::POST, APP, half_sent(1))));
    assert!(futures_util::FutureExt::now_or_never(&mut waits).is_none());
    assert_eq!(desk.run(&input()).await.status, 200);
    let mut slow = Box::pin(desk.send(call(HostClass::Run, &Method::POST, APP, half_sent(65_500))));
    assert!(futures_util::FutureExt::now_or_never(&mut slow).is_none());
    assert_eq!(desk.run(&input()).await.status, 429);
    drop(slow);
    assert_eq!(desk.run(&input()).await.status, 200);
}

#[tokio::test]
async fn case_35_a_run_that_cannot_start_in_time_is_a_504_of_the_users_making() {
    let desk = Desk::open().await;
    desk.control.hold(FakePart::Encode);
    let running = desk.engine.submit(a_job()).unwrap();
    desk.control.called(FakePart::Encode, 1).await;
    let late = tokio::spawn({
        let desk = desk.clone();
        async move {
            let mut request = call(HostClass::Run, &Method::POST, APP, input().to_string());
            request.headers_mut().insert("x-fal-request-timeout", "0.2".parse().unwrap());
            desk.send(request).await
        }
    });
    // The device is busy all the while: the answer does not wait for it.
    let answer = late.await.unwrap();
    desk.control.release(FakePart::Encode);
    running.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("x-fal-request-timeout-type")), (504, "user"));
    assert_eq!(
        (answer.header("x-fal-error-type"), &answer.json()["error_type"]),
        ("request_timeout", &json!("request_timeout"))
    );
}

#[tokio::test]
async fn case_35_a_timeout_that_is_no_number_is_refused() {
    let desk = Desk::open().await;
    for (value, status) in [("5.0", 200), ("soon", 400), ("0", 400)] {
        let mut request = call(HostClass::Run, &Method::POST, APP, input().to_string());
        request.headers_mut().insert("x-fal-request-start-timeout", value.parse().unwrap());
        assert_eq!(desk.send(request).await.status, status, "{value}");
    }
}

#[tokio::test]
async fn case_36_a_get_with_query_fields_runs() {
    let desk = Desk::open().await;
    let uri = data_uri("image/png", &png(8, 8)).replace('+', "%2B");
    let path = format!("{APP}?prompt=a+cat&image_url={uri}&seed=42&sync_mode=true&strength=&num_images=undefined");
    let answer = desk.send(call(HostClass::Run, &Method::GET, &path, "")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["seed"]), (200, &json!(42)));
    let empty = desk.send(call(HostClass::Run, &Method::GET, APP, "")).await;
    assert_eq!(empty.json()["detail"][0]["loc"], json!(["query", "prompt"]));
}

#[tokio::test]
async fn case_37_a_body_over_the_limit_is_a_413_with_json() {
    let settings = HostSettings { max_body_bytes: 1000.try_into().unwrap(), ..HostSettings::default() };
    let answer = Desk::with(settings).await.run(&input_with(json!({ "prompt": "x".repeat(2000) }))).await;
    assert_eq!((answer.status.as_u16(), answer.json()["detail"].is_string()), (413, true));
}

#[tokio::test]
async fn a_dropped_request_is_not_drawn_to_its_end() {
    let desk = Desk::open().await;
    desk.control.hold(FakePart::Encode);
    let gone = tokio::spawn({
        let desk = desk.clone();
        async move { desk.run(&input()).await }
    });
    desk.control.called(FakePart::Encode, 1).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    desk.control.release(FakePart::Encode);
    // The next run finds a free device; only its own steps were made.
    assert_eq!(desk.run(&input_with(json!({ "num_inference_steps": 3 }))).await.status, 200);
    assert_eq!(desk.control.calls_of(FakePart::Step).len(), 3);
}

#[tokio::test]
async fn a_failing_device_is_a_500_and_one_without_memory_a_503() {
    let desk = Desk::open().await;
    for (fault, status, retry) in
        [(FakeFault::Fail, 500, "false"), (FakeFault::NotFinite, 500, "false"), (FakeFault::OutOfMemory, 503, "true")]
    {
        desk.control.inject(FakePart::Step, 0, fault);
        let answer = desk.run(&input()).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-fal-needs-retry")), (status, retry), "{fault:?}");
        assert!(answer.json()["detail"].is_string());
    }
    assert_eq!(desk.run(&input()).await.status, 200);
}

#[tokio::test]
async fn a_loading_engine_is_a_503_and_a_failed_one_a_500() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let engine = Engine::start(EngineSettings::default(), move |_| {
        let _ = wait.recv();
        Err(OpenError::Model { what: "no such folder /secret".to_owned(), source: "gone".into() })
    });
    let host = HostService::new(engine.clone(), HostSettings::default()).unwrap();
    let ask = |path: &'static str, method: Method| {
        let request = call(HostClass::Run, &method, path, input().to_string());
        let host = host.clone();
        async move { Answer::read(host.oneshot(request).await.unwrap()).await }
    };
    let loading = ask(APP, Method::POST).await;
    assert_eq!((loading.status.as_u16(), loading.header("retry-after")), (503, "5"));
    assert_eq!(ask("/fal-ai/lcm-sd15-i2i/health", Method::GET).await.json(), json!({ "status": "loading" }));
    go.send(()).unwrap();
    assert!(engine.ready().await.is_err());
    let failed = ask(APP, Method::POST).await;
    assert_eq!(failed.status, 500);
    assert!(!String::from_utf8_lossy(&failed.body).contains("secret"));
    let health = ask("/fal-ai/lcm-sd15-i2i/health", Method::GET).await;
    assert_eq!((health.status.as_u16(), health.json()), (200, json!({ "status": "failed" })));
}

#[tokio::test]
async fn calls_that_are_not_hosted_say_so() {
    let desk = Desk::open().await;
    for (class, method, path, status) in [
        (HostClass::Run, Method::POST, "/fal-ai/lcm-sd15-i2i/stream", 501),
        (HostClass::Queue, Method::POST, "/fal-ai/lcm-sd15-i2i", 501),
        (HostClass::Queue, Method::GET, "/fal-ai/lcm-sd15-i2i/requests/abc/status", 501),
        (HostClass::Queue, Method::GET, "/fal-ai/lcm-sd15-i2i/requests/abc", 501),
        (HostClass::Queue, Method::PUT, "/fal-ai/lcm-sd15-i2i/requests/abc/cancel", 501),
        (HostClass::Rest, Method::POST, "/tokens/", 501),
        (HostClass::Rest, Method::POST, "/storage/upload/initiate-multipart", 501),
        (HostClass::Run, Method::POST, "/fal-ai/lcm-sd15-i2i/nothing/here", 404),
    ] {
        let answer = desk.send(call(class, &method, path, input().to_string())).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.json()["detail"].is_string(), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let unadmitted = desk.send(Request::new("".into())).await;
    assert_eq!(unadmitted.status, 404);
}

#[tokio::test]
async fn a_path_below_the_app_is_answered_where_it_is_named() {
    let path = falgate::wire::EndpointPattern::parse("fal-ai/fast-lcm-diffusion/image-to-image").unwrap();
    let settings = HostSettings { paths: vec![path], ..HostSettings::default() };
    let desk = Desk::with(settings).await;
    let request = call(HostClass::Run, &Method::POST, "/fal-ai/fast-lcm-diffusion/image-to-image", input().to_string());
    assert_eq!(desk.send(request).await.status, 200);
}

#[test]
fn no_prompt_and_no_picture_is_in_a_debug_line() {
    let secret = "canary";
    let uri = format!("data:image/png;base64,{secret}");
    let fields = input_with(json!({ "prompt": secret, "negative_prompt": secret, "image_url": uri }));
    let input = falgate::wire::LcmInput::from_fields(fields.as_object().unwrap().clone(), None).unwrap();
    assert!(!format!("{input:?}").contains(secret));
}
