//! The two programs that show how to mount the layers, run against a fake fal.

use bytes::Bytes;
use falgate::upstream::KeyRing;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::proxy_stack::{CANARY, upstream};

#[expect(dead_code, unreachable_pub, reason = "the program's own start is not called here, and nothing is exported")]
#[path = "../../examples/embed_in_axum.rs"]
mod embed_in_axum;
#[expect(dead_code, unreachable_pub, reason = "the program's own start is not called here, and nothing is exported")]
#[path = "../../examples/embed_in_hyper.rs"]
mod embed_in_hyper;

async fn fake() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, r#"{"images":[]}"#)).await
}

fn ring() -> KeyRing {
    KeyRing::single(CANARY.to_owned()).unwrap()
}

async fn post(listener: &std::net::SocketAddr, cookie: &str) -> Response<Incoming> {
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::post(format!("http://{listener}/api/fal/proxy"))
        .header("content-type", "application/json")
        .header("x-fal-target-url", "https://fal.run/fal-ai/flux/dev")
        .header("cookie", cookie)
        .body(Full::from(r#"{"prompt":"a cat"}"#))
        .unwrap();
    client.request(request).await.unwrap()
}

async fn expect_a_picture(answer: Response<Incoming>, fal: &FakeFal) {
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), r#"{"images":[]}"#);
    let seen = fal.only();
    assert_eq!(seen.header("authorization"), Some(format!("Key {CANARY}").as_str()));
    assert_eq!((seen.header("cookie"), &seen.body[..]), (None, &br#"{"prompt":"a cat"}"#[..]));
}

#[tokio::test]
async fn the_axum_program_proxies_for_those_who_are_logged_in() {
    let fal = fake().await;
    let app = embed_in_axum::application(ring(), upstream(&fal.url())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    assert_eq!(post(&address, "session=other").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(fal.connections(), 0);
    expect_a_picture(post(&address, "theme=dark; session=demo").await, &fal).await;
}

#[tokio::test]
async fn the_hyper_program_proxies() {
    let fal = fake().await;
    let service = embed_in_hyper::proxy(ring(), upstream(&fal.url())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(embed_in_hyper::serve(listener, service));
    expect_a_picture(post(&address, "session=none").await, &fal).await;
}
