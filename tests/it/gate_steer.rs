//! Which door, spelling and route leads to the engine and which to fal.

use falgate::engine::{FakePart, Ticket};
use http::Method;
use serde_json::json;

use crate::engine_support::{job, within};
use crate::gate_support::{APP, Certificate, ENGINE, FAL_KEY, Gate, RUN, asked, detail, fal_at, proxied, spilling};
use crate::host_desk::{input, input_with};
use crate::support::fake_fal::{FakeFal, Reply};

const FLUX: &str = "https://fal.run/fal-ai/flux";

async fn fal() -> FakeFal {
    FakeFal::http(|_| Reply::json(200, "{\"from\":\"fal\"}")).await
}

#[tokio::test]
async fn every_spelling_of_the_app_reaches_the_engine() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    let legacy = "110602490-lcm-sd15-i2i.gateway.alpha.fal.ai";
    let rows = [
        ("gate.test", "/110602490-lcm-sd15-i2i"),
        ("gate.test", "/110602490/lcm-sd15-i2i"),
        ("gate.test", "/fal-ai/lcm-sd15-i2i"),
        ("gate.test", "/fal-ai/lcm-sd15-i2i/"),
        ("gate.test", "/110602490-lcm-sd15-i2i/"),
        (legacy, "/"),
        ("110602490-lcm-sd15-i2i.gateway.gate.test:8787", "/"),
    ];
    for (count, (host, path)) in (1..).zip(rows) {
        let headers = [("host", host), ("content-type", "application/json")];
        let answer = gate.send(asked(Method::POST, path, &headers, input().to_string())).await;
        assert_eq!(answer.status, 200, "{host}{path}: {answer:?}");
        assert!(answer.json()["images"][0]["url"].as_str().unwrap().starts_with("data:image/"), "{host}{path}");
        assert_eq!(gate.control().calls_of(FakePart::Decode).len(), count, "{host}{path}");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn case_16_every_target_of_the_app_is_served_by_the_gate_itself() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    for target in [
        "https://fal.run/110602490-lcm-sd15-i2i",
        "https://fal.run/110602490/lcm-sd15-i2i",
        RUN,
        "https://fal.run/fal-ai/lcm-sd15-i2i/",
        "https://fal.run:443/fal-ai/lcm-sd15-i2i",
        "https://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai/",
        "https://110602490-lcm-sd15-i2i.gateway.alpha.fal.ai",
    ] {
        let answer = gate.proxied(target, input().to_string()).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        assert!(answer.json()["images"][0]["url"].is_string(), "{target}");
    }
    for host in ["rest.alpha.fal.ai", "rest.fal.ai"] {
        let target = format!("https://{host}/storage/upload/initiate");
        let answer = gate.proxied(&target, json!({ "content_type": "image/png" }).to_string()).await;
        assert_eq!(answer.status, 200, "{target}: {answer:?}");
        let upload = answer.json()["upload_url"].as_str().unwrap().to_owned();
        assert!(upload.starts_with("http://gate.test/files/"), "{upload}");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn an_endpoint_that_nobody_listed_is_refused_at_each_door() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    for path in ["fal-ai/other", "fal-ai/lcm-sd15-i2i-2", "me/flux", "110602490-other"] {
        let direct = gate.post(&format!("/{path}"), "{}").await;
        assert_eq!((direct.status.as_u16(), detail(&direct).contains("not allowed")), (403, true), "{path}");
        let proxied = gate.proxied(&format!("https://fal.run/{path}"), "{}").await;
        assert_eq!((proxied.status.as_u16(), detail(&proxied).contains("not allowed")), (403, true), "{path}");
    }
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn an_upstream_endpoint_goes_to_fal_with_the_key() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{ENGINE}", fal_at(&fal.url()))).await;
    let mut request = proxied(FLUX, "{\"a\":1}");
    for (name, value) in [("authorization", "Key mine:mine"), ("cookie", "session=1"), ("x-forwarded-for", "1.2.3.4")] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = gate.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "from": "fal" })));
    let seen = fal.only();
    assert_eq!(seen.header("authorization"), Some(format!("Key {FAL_KEY}").as_str()));
    assert_eq!((seen.path_and_query.as_str(), seen.body.as_ref()), ("/fal-ai/flux", &b"{\"a\":1}"[..]));
    assert_eq!(
        (seen.header("cookie"), seen.header("x-forwarded-for"), seen.header("x-fal-target-url")),
        (None, None, None)
    );
    assert!(gate.control().calls().is_empty());
}

/// Fills device and queue with jobs of nobody's, so that the next one finds no room. They last as long as the tickets.
async fn fill(gate: &Gate) -> [Ticket; 2] {
    gate.control().hold(FakePart::Step);
    let first = gate.engine().submit(job(1)).unwrap();
    within(gate.control().called(FakePart::Step, 1)).await;
    [first, gate.engine().submit(job(2)).unwrap()]
}

#[tokio::test]
async fn a_full_queue_spills_to_fal_exactly_once() {
    let fal = fal().await;
    let gate = Gate::start(&format!("{}{}", fal_at(&fal.url()), spilling(1))).await;
    let tickets = fill(&gate).await;
    let answer = gate.proxied(RUN, input_with(json!({ "prompt": "spilled" })).to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "from": "fal" })));
    let seen = fal.only();
    assert_eq!(seen.path_and_query, APP);
    assert_eq!(seen.header("authorization"), Some(format!("Key {FAL_KEY}").as_str()));
    assert!(String::from_utf8_lossy(&seen.body).contains("spilled"));
    gate.control().release(FakePart::Step);
    for ticket in tickets {
        within(ticket).await.unwrap();
    }
    assert_eq!(gate.proxied(RUN, input().to_string()).await.status, 200);
    assert_eq!(fal.seen().len(), 1, "with room again, the engine answers");
}

#[tokio::test]
async fn a_full_queue_without_spill_is_a_429() {
    let fal = fal().await;
    let text = ENGINE.replace("linger_ms = 0", "linger_ms = 0\nqueue = 1");
    let gate = Gate::start(&format!("{}{text}", fal_at(&fal.url()))).await;
    let _tickets = fill(&gate).await;
    for answer in [gate.proxied(RUN, input().to_string()).await, gate.post(APP, input().to_string()).await] {
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
        assert!(detail(&answer).contains("too many requests are waiting"));
    }
    assert_eq!(fal.connections(), 0);
    gate.control().release(FakePart::Step);
}

#[tokio::test]
async fn a_spilled_call_hears_fals_refusal_and_is_not_repeated() {
    let fal = FakeFal::http(|_| Reply::json(429, "{\"detail\":\"fal is full\"}")).await;
    let gate = Gate::start(&format!("{}{}", fal_at(&fal.url()), spilling(1))).await;
    let _tickets = fill(&gate).await;
    let answer = gate.proxied(RUN, input().to_string()).await;
    assert_eq!((answer.status.as_u16(), detail(&answer).as_str()), (429, "fal is full"));
    assert_eq!(fal.seen().len(), 1);
    gate.control().release(FakePart::Step);
}

#[tokio::test]
async fn case_107_a_second_gate_over_tls_answers_for_the_first() {
    let tls = Certificate::new();
    let fal = fal().await;
    let keys = "[guard.keys]\nenv = \"ACCESS\"\n";
    let second = format!("{}{ENGINE}{keys}{}", fal_at(&fal.url()), tls.settings());
    let second = Gate::start_in(&second, &[("FAL_KEY", "other-id:other-secret"), ("ACCESS", FAL_KEY)], None).await;
    let url = format!("https://localhost:{}", second.address.port());
    let first = format!(
        "[upstream]\nca_file = \"{}\"\naddresses = {{ run = \"{url}\", queue = \"{url}\", rest = \"{url}\" }}\n\
         [proxy.targets]\nendpoints = [\"fal-ai/**\"]\n",
        tls.ca_file().display()
    );
    let first = Gate::start(&first).await;
    let mut request = proxied(RUN, input().to_string());
    request.headers_mut().insert("x-fal-client-proxy", "somebody".parse().unwrap());
    let answer = first.send(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["images"][0]["url"].as_str().unwrap().starts_with("data:image/"));
    assert_eq!(second.control().calls_of(FakePart::Decode).len(), 1);
    let through = first.proxied(FLUX, "{}").await;
    assert_eq!((through.status.as_u16(), through.json()), (200, json!({ "from": "fal" })));
    assert_eq!(fal.only().header("authorization"), Some("Key other-id:other-secret"));
    let missing = first.proxied(RUN, "{}").await;
    assert_eq!(missing.status, 422, "the second gate's refusal passes unchanged");
}

#[tokio::test]
async fn an_upstream_row_before_a_wide_engine_row_opens_nothing() {
    let fal = fal().await;
    let rows = ENGINE.replace("[[route]]", "[[route]]\nendpoint = \"fal-ai/costly\"\nto = \"upstream\"\n[[route]]");
    let rows = rows.replace("fal-ai/lcm-sd15-i2i", "fal-ai/**");
    let gate = Gate::start(&format!("{}{rows}", fal_at(&fal.url()))).await;
    for answer in [
        gate.proxied("https://fal.run/fal-ai/costly", "{}").await,
        gate.proxied("https://queue.fal.run/fal-ai/costly", "{}").await,
        gate.post("/fal-ai/costly", "{}").await,
    ] {
        assert_eq!((answer.status.as_u16(), detail(&answer).contains("not allowed")), (403, true), "{answer:?}");
    }
    assert_eq!(gate.proxied(RUN, input().to_string()).await.status, 200, "what the engine answers is open");
    assert_eq!(fal.connections(), 0);
}

#[tokio::test]
async fn an_open_direct_door_does_not_spill_and_one_with_a_key_does() {
    let fal = fal().await;
    let open = Gate::start(&format!("{}{}", fal_at(&fal.url()), spilling(1))).await;
    let _tickets = fill(&open).await;
    let answer = open.post(APP, input().to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (429, "1"));
    assert_eq!(fal.connections(), 0, "nobody without a key spends the owner's money");
    open.control().release(FakePart::Step);

    let text = format!("{}{}[guard.keys]\nenv = \"ACCESS\"\n", fal_at(&fal.url()), spilling(1));
    let keyed = Gate::start_in(&text, &[("FAL_KEY", FAL_KEY), ("ACCESS", "caller-id:caller-secret-0123")], None).await;
    let _tickets = fill(&keyed).await;
    let headers = [("content-type", "application/json"), ("authorization", "Key caller-id:caller-secret-0123")];
    let answer = keyed.send(asked(Method::POST, APP, &headers, input().to_string())).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({ "from": "fal" })));
    keyed.control().release(FakePart::Step);
}

#[tokio::test]
async fn case_15_a_proxy_path_that_is_switched_off_is_a_plain_404() {
    let fal = fal().await;
    let wide = ENGINE.replace("fal-ai/lcm-sd15-i2i", "**");
    let gate = Gate::start(&format!("{}{wide}", fal_at(&fal.url()))).await;
    for path in ["/api/_fal/proxy", "/api/_fal/proxy/", "/api/_fal/proxy/below"] {
        let headers = [("content-type", "application/json"), ("x-fal-target-url", RUN)];
        let answer = gate.send(asked(Method::POST, path, &headers, input().to_string())).await;
        assert_eq!((answer.status.as_u16(), detail(&answer)), (404, format!("Path {path} not found")));
    }
    assert!(gate.control().calls().is_empty());
}

#[tokio::test]
async fn case_103_a_422_that_is_asked_for_four_times_is_the_same_each_time() {
    let gate = Gate::start_in(ENGINE, &[], None).await;
    let wrong = input_with(json!({ "strength": 2 })).to_string();
    let first = gate.proxied(RUN, wrong.clone()).await;
    assert_eq!(first.status, 422);
    for _ in 1..4 {
        let again = gate.proxied(RUN, wrong.clone()).await;
        assert_eq!((again.status, again.json()), (first.status, first.json()));
    }
    assert!(gate.control().calls().is_empty(), "none of them reached the device");
    assert_eq!(gate.proxied(RUN, input().to_string()).await.status, 200);
}
