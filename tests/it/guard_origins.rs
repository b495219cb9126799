//! Row "CORS as auth" of the security table, protocol spec 1.6, and cases 12, 86 and 104.

use std::convert::Infallible;

use falgate::guard::{OriginSettings, OriginsLayer};
use falgate::wire::Body;
use http::{Request, Response, StatusCode};
use tower::{ServiceBuilder, ServiceExt as _, service_fn};

const PAGE: &str = "https://draw.example";

async fn ask(settings: &OriginSettings, request: http::request::Builder) -> Response<Body> {
    let service = ServiceBuilder::new()
        .layer(OriginsLayer::new(settings).unwrap())
        .service(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Body::from("reached"))) }));
    service.oneshot(request.header("host", "gate.test").body(()).unwrap()).await.unwrap()
}

fn listed() -> OriginSettings {
    OriginSettings { allow: vec![PAGE.to_owned()], ..OriginSettings::default() }
}

fn text<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_preflight_of_a_listed_page_is_answered_without_a_key() {
    let asked = "authorization,content-type,x-fal-target-url,x-fal-runner-hint,x-evil";
    let preflight = Request::builder()
        .method("OPTIONS")
        .header("origin", PAGE)
        .header("access-control-request-method", "PUT")
        .header("access-control-request-headers", asked);
    let answer = ask(&listed(), preflight).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(&answer, "access-control-allow-origin"), PAGE);
    assert_eq!(text(&answer, "access-control-max-age"), "600");
    assert_eq!(text(&answer, "access-control-allow-credentials"), "");
    let headers = text(&answer, "access-control-allow-headers");
    assert_eq!(headers, "authorization,content-type,x-fal-target-url,x-fal-runner-hint");
    let methods = text(&answer, "access-control-allow-methods");
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
        assert!(methods.contains(method), "{method}: {methods}");
    }
    assert!(text(&answer, "vary").contains("origin"));
}

#[tokio::test]
async fn a_listed_page_may_read_the_request_id() {
    let answer = ask(&listed(), Request::post("/").header("origin", PAGE)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(&answer, "access-control-allow-origin"), PAGE);
    assert!(text(&answer, "access-control-expose-headers").contains("x-fal-request-id"));
}

#[tokio::test]
async fn a_foreign_page_changes_nothing_and_reads_nothing() {
    for origin in [
        "https://evil.example",
        "https://draw.example.evil",
        "https://evildraw.example",
        "http://draw.example",
        "https://draw.example:8443",
        "https://draw.example, https://evil.example",
        "null",
        "",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let answer = ask(&listed(), Request::builder().method(method).header("origin", origin)).await;
            assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} from {origin}");
            assert_eq!(text(&answer, "access-control-allow-origin"), "");
        }
        let answer = ask(&listed(), Request::get("/").header("origin", origin)).await;
        assert_eq!(text(&answer, "access-control-allow-origin"), "", "{origin}");
        let preflight = Request::builder()
            .method("OPTIONS")
            .header("origin", origin)
            .header("access-control-request-method", "POST");
        assert_eq!(text(&ask(&listed(), preflight).await, "access-control-allow-origin"), "", "{origin}");
    }
    let two = Request::post("/").header("origin", PAGE).header("origin", "https://evil.example");
    assert_eq!(ask(&listed(), two).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_foreign_page_opens_no_socket() {
    let socket = |origin| {
        Request::get("/").header("connection", "upgrade").header("upgrade", "websocket").header("origin", origin)
    };
    assert_eq!(ask(&listed(), socket("https://evil.example")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(&listed(), socket(PAGE)).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_gates_own_pages_and_programs_need_no_entry() {
    let none = OriginSettings::default();
    assert_eq!(ask(&none, Request::post("/").header("origin", "https://gate.test")).await.status(), StatusCode::OK);
    assert_eq!(ask(&none, Request::post("/")).await.status(), StatusCode::OK);
    assert_eq!(ask(&none, Request::post("/").header("origin", PAGE)).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn every_page_may_call_where_the_owner_says_so_but_without_credentials() {
    let any = OriginSettings { allow: vec!["*".to_owned()], ..OriginSettings::default() };
    let answer = ask(&any, Request::post("/").header("origin", "https://any.example")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(&answer, "access-control-allow-origin"), "*");
    assert_eq!(text(&answer, "access-control-allow-credentials"), "");
    let with_credentials = OriginSettings { credentials: true, ..listed() };
    let answer = ask(&with_credentials, Request::post("/").header("origin", PAGE)).await;
    assert_eq!(text(&answer, "access-control-allow-credentials"), "true");
    assert_eq!(text(&answer, "access-control-allow-origin"), PAGE);
}
