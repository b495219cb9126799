//! Limits on a whole gate: who is charged, what is told, and what is given back.

use falgate::engine::FakePart;
use http::Method;
use serde_json::json;

use crate::engine_support::within;
use crate::gate_support::{APP, ENGINE, Gate, Line, PROXY, RUN, asked, detail, fal_at, proxied};
use crate::host_desk::{Answer, input, input_with};
use crate::support::fake_fal::{FakeFal, Reply};

fn rule(of: &str, by: &str, amount: u32) -> String {
    format!(
        "[[limits.rule]]\nname = \"{of}-{by}\"\nof = \"{of}\"\nby = \"{by}\"\namount = {amount}\nper_ms = 3600000\n"
    )
}

async fn fal() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, "{\"from\":\"fal\"}")).await
}

fn told(answer: &Answer, name: &str) -> String {
    answer.headers[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_fourth_call_is_refused_at_every_door_in_fals_shape() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{ENGINE}{}", fal_at(&fal.url()), rule("requests", "address", 3))).await;
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200);
    assert_eq!(gate.proxied(RUN, input().to_string()).await.status, 200);
    let third = gate.proxied("https://fal.run/fal-ai/flux", "{}").await;
    assert_eq!(
        (third.status.as_u16(), told(&third, "ratelimit").starts_with("\"requests-address\";r=0;t=3")),
        (200, true)
    );
    assert_eq!(told(&third, "ratelimit-policy"), "\"requests-address\";q=3;w=3600");
    for answer in [
        gate.post(APP, input().to_string()).await,
        gate.proxied(RUN, input().to_string()).await,
        gate.proxied("https://fal.run/fal-ai/flux", "{}").await,
    ] {
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(told(&answer, "retry-after").parse::<u64>().unwrap() > 1000);
        assert!(answer.headers.contains_key("x-fal-request-id"));
        let body = answer.json();
        assert_eq!(body["detail"], body["message"]);
        assert_eq!(detail(&answer), "Rate limit exceeded: too many requests in a short time");
    }
    assert_eq!(fal.seen().len(), 1, "a refused call is never dialled");
}

#[tokio::test]
async fn a_page_may_read_what_is_left_cross_origin() {
    let rules =
        format!("[guard.origins]\nallow = [\"https://draw.example\"]\n{ENGINE}{}", rule("requests", "address", 1));
    let gate = Gate::start(&rules).await;
    let headers = [("origin", "https://draw.example"), ("content-type", "application/json"), ("x-fal-target-url", RUN)];
    let ask = || asked(Method::POST, PROXY, &headers, input().to_string());
    assert_eq!(gate.send(ask()).await.status, 200);
    let refused = gate.send(ask()).await;
    assert_eq!(refused.status, 429);
    assert_eq!(told(&refused, "access-control-allow-origin"), "https://draw.example");
    let exposed = told(&refused, "access-control-expose-headers");
    let older = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
    let waiting = ["x-falgate-queue-place", "x-falgate-queue-wait"];
    for name in ["ratelimit", "ratelimit-policy", "retry-after"].into_iter().chain(older).chain(waiting) {
        assert!(exposed.split(',').any(|word| word.trim() == name), "{name} in {exposed}");
    }
    let preflight = [("origin", "https://draw.example"), ("access-control-request-method", "POST")];
    assert_eq!(gate.send(asked(Method::OPTIONS, PROXY, &preflight, "")).await.status, 200, "a preflight costs nothing");
}

#[tokio::test]
async fn work_that_was_not_done_is_given_back_and_the_request_is_not() {
    let text = format!("{ENGINE}{}{}", rule("pictures", "address", 2), rule("requests", "address", 9));
    let gate = Gate::start(&text).await;
    for _ in 0..4 {
        assert_eq!(gate.post(APP, input_with(json!({ "strength": 2 })).to_string()).await.status, 422);
    }
    // Two pictures in one call: one was estimated, two are charged.
    let two = gate.post(APP, input_with(json!({ "num_images": 2 })).to_string()).await;
    assert_eq!(two.status, 200, "{two:?}");
    let refused = gate.post(APP, input().to_string()).await;
    assert_eq!((refused.status.as_u16(), detail(&refused).contains("pictures")), (429, true));
    let left = told(&refused, "ratelimit");
    assert!(left.contains("\"requests-address\";r=4;"), "five calls were made: {left}");
}

#[tokio::test]
async fn work_that_fal_may_have_done_is_not_given_back() {
    let fal = FakeFal::http(|request| match request.path_and_query.as_str() {
        "/fal-ai/flux/late" => Reply::never(),
        _ => Reply::json(500, "{}"),
    })
    .await;
    let text = fal_at(&fal.url()).replace("[upstream]\n", "[upstream]\nfirst_byte_timeout_ms = 50\n");
    let gate = Gate::start(&format!("{text}{}", rule("pictures", "address", 1))).await;
    for (path, status) in [("dev", 500), ("dev", 500), ("late", 504), ("dev", 429)] {
        let answer = gate.proxied(&format!("https://fal.run/fal-ai/flux/{path}"), "{}").await;
        assert_eq!(answer.status, status, "{path}: a failure of fal's costs nothing, silence may: {answer:?}");
    }
}

#[tokio::test]
async fn a_caller_behind_no_trusted_proxy_cannot_choose_an_address() {
    let gate = Gate::start(&format!("{ENGINE}{}", rule("requests", "address", 2))).await;
    let mut statuses = Vec::new();
    for at in 0..4 {
        let spoofed = format!("203.0.113.{at}");
        let headers = [
            ("content-type", "application/json"),
            ("x-forwarded-for", &*spoofed),
            ("forwarded", &*format!("for={spoofed}")),
            ("x-real-ip", &*spoofed),
        ];
        statuses.push(gate.send(asked(Method::POST, APP, &headers, input().to_string())).await.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    let trusting =
        format!("[guard.address]\ntrusted_proxies = [\"127.0.0.0/8\"]\n{ENGINE}{}", rule("requests", "address", 1));
    let gate = Gate::start(&trusting).await;
    for at in 0..3 {
        let forwarded = format!("198.51.100.7, 203.0.113.{at}");
        let headers = [("content-type", "application/json"), ("x-forwarded-for", &*forwarded)];
        let answer = gate.send(asked(Method::POST, APP, &headers, input().to_string())).await;
        assert_eq!(answer.status, 200, "counted from the right: {forwarded}");
    }
}

#[tokio::test]
async fn a_call_under_way_holds_its_place_until_its_answer_ends() {
    let text = format!("{ENGINE}[[limits.at_once]]\nname = \"one\"\nof = \"requests\"\nby = \"address\"\nmost = 1\n");
    let gate = Gate::start(&text).await;
    gate.control().hold(FakePart::Decode);
    let mut line = Line::to(gate.address).await;
    let first = tokio::spawn(async move { line.send(proxied(RUN, input().to_string())).await });
    within(gate.control().called(FakePart::Decode, 1)).await;
    let refused = gate.post(APP, input().to_string()).await;
    assert_eq!((refused.status.as_u16(), told(&refused, "retry-after")), (429, "1".to_owned()));
    gate.control().release(FakePart::Decode);
    assert_eq!(within(first).await.unwrap().status, 200);
    assert_eq!(gate.post(APP, input().to_string()).await.status, 200);
}

#[tokio::test]
async fn case_19_twenty_polls_a_second_stay_under_a_limit_of_one_call_a_second() {
    let fal = fal().await;
    let rule = "[[limits.rule]]\nname = \"rps\"\nof = \"requests\"\nby = \"address\"\namount = 1\nper_ms = 1000\n";
    let gate = Gate::start(&format!("{}{rule}", fal_at(&fal.url()))).await;
    let target = "https://queue.fal.run/fal-ai/flux/requests/abc/status";
    let mut line = Line::to(gate.address).await;
    for _ in 0..40 {
        let answer = line.send(asked(Method::GET, PROXY, &[("x-fal-target-url", target)], "")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}
