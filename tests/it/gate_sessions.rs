//! Sessions of the application's own on a whole gate: asked of it, remembered for a moment, and never guessed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use falgate::guard::{Inquire, Inquiry, SessionFault, SessionSettings, Sessions};
use http::{Method, Request, Response};
use serde_json::{Value, json};

use crate::gate_support::{ENGINE, FAL_KEY, Gate, PROXY, RUN, asked, detail, fal_at};
use crate::host_desk::{Answer, input};
use crate::support::fake_fal::{FakeFal, Reply, Seen};

const JSON: (&str, &str) = ("content-type", "application/json");

/// The application's login, and fal, behind one port.
async fn application() -> FakeFal {
    FakeFal::http(|seen: &Seen| {
        if seen.path_and_query != "/auth" {
            return Reply::json(200, "{\"from\":\"fal\"}");
        }
        let cookies = seen.header("cookie").unwrap();
        let named = |name: &str| Reply::json(204, "").header("x-user", name).header("x-plan", "pro");
        match cookies {
            "session=ann" | "session=ann; login=2" => named("ann"),
            "session=empty" => named(""),
            "session=visitor" => named("visitor-1"),
            "session=nameless" => Reply::json(200, "{}"),
            "session=odd" => Reply::json(302, "").header("location", "/login"),
            "session=broken" => Reply::json(500, "{}"),
            "session=banned" => Reply::json(403, "{}"),
            _ => Reply::json(401, "{}"),
        }
    })
    .await
}

fn settings(url: &str, more: &str) -> String {
    format!(
        "[guard.session]\nurl = \"{url}/auth\"\ncookies = [\"session\", \"login\"]\ncaller_header = \"X-User\"\n\
         tier_header = \"x-plan\"\ntimeout_ms = 500\n{more}"
    )
}

async fn start(text: &str) -> Gate {
    let keys = ("KEYS", "bob 22222222:secret-of-bob");
    Gate::start_in(
        text,
        &[("FAL_KEY", FAL_KEY), keys, ("V", "HS256 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")],
        None,
    )
    .await
}

async fn call(gate: &Gate, target: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = [JSON, ("x-fal-target-url", target)].into_iter().chain(headers.iter().copied()).collect();
    gate.send(asked(Method::POST, PROXY, &headers, input().to_string())).await
}

async fn with_cookie(gate: &Gate, cookie: &str) -> Answer {
    call(gate, RUN, &[("cookie", cookie)]).await
}

#[tokio::test]
async fn the_application_says_whose_session_it_is_and_fal_hears_nothing_of_it() {
    let application = application().await;
    let text = format!("{}{}{ENGINE}", settings(&application.url(), ""), fal_at(&application.url()));
    let gate = start(&text).await;
    let cookie = "theme=dark; session=ann; login=2; other=secret";
    assert_eq!(with_cookie(&gate, cookie).await.status, 200);
    let question = application.only();
    assert_eq!((question.method.as_str(), question.header("cookie")), ("GET", Some("session=ann; login=2")));
    assert!(question.headers.keys().all(|name| ["accept", "cookie", "host", "user-agent"].contains(&name.as_str())));
    let path = "/api/fal/token?app=lcm-sd15-i2i";
    let token = gate.send(asked(Method::GET, path, &[("cookie", cookie)], "")).await.json();
    let claims: Value = jsonwebtoken::dangerous::insecure_decode(token.as_str().unwrap()).unwrap().claims;
    assert_eq!((&claims["sub"], &claims["tier"]), (&json!("ann"), &json!("pro")));
    assert_eq!(call(&gate, "https://fal.run/fal-ai/flux", &[("cookie", cookie)]).await.json(), json!({"from": "fal"}));
    let seen = application.seen();
    assert_eq!(seen.len(), 2, "the session is remembered for a moment: {seen:?}");
    assert_eq!(seen[1].header("cookie"), None);
    assert!(with_cookie(&gate, "theme=dark").await.status == 401, "no session, no call");
    assert_eq!(application.seen().len(), 2, "and nobody is asked about none");
}

#[tokio::test]
async fn a_session_that_is_refused_is_401_and_one_that_cannot_be_checked_is_503() {
    let application = application().await;
    let open = "[guard.identity]\ncallers = \"anonymous\"\n";
    let gate = start(&format!("{open}{}{ENGINE}", settings(&application.url(), ""))).await;
    for (cookie, status) in [
        ("session=ended", 401),
        ("session=banned", 401),
        ("session=", 401),
        ("session=visitor", 401),
        ("session=empty", 503),
        ("session=nameless", 503),
        ("session=odd", 503),
        ("session=broken", 503),
    ] {
        let answer = with_cookie(&gate, cookie).await;
        assert_eq!(answer.status.as_u16(), status, "{cookie}: {answer:?}");
        assert!(!detail(&answer).contains("127.0.0.1"));
    }
    let long = format!("session={}", "x".repeat(9000));
    let asked_before = application.seen().len();
    assert_eq!(with_cookie(&gate, &long).await.status, 401);
    assert_eq!(application.seen().len(), asked_before, "what is no session is not shown to the application");
    assert_eq!(with_cookie(&gate, "theme=dark").await.status, 200, "nobody may call here");
    let gone = start(&format!("{open}{}{ENGINE}", settings("http://127.0.0.1:9", ""))).await;
    assert_eq!(with_cookie(&gone, "session=ann").await.status, 503);
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_lets_nobody_in() {
    let silent = FakeFal::http(|_| Reply::never()).await;
    let gate = start(&format!("{}{ENGINE}", settings(&silent.url(), ""))).await;
    assert_eq!(with_cookie(&gate, "session=ann").await.status, 503);
}

#[tokio::test]
async fn a_page_of_another_site_does_not_call_in_the_name_of_whoever_is_logged_in() {
    let application = application().await;
    let text =
        format!("[guard.origins]\nallow = [\"https://draw.example\"]\n{}{ENGINE}", settings(&application.url(), ""));
    let gate = start(&text).await;
    let cookie = ("cookie", "session=ann");
    for headers in [
        vec![cookie, ("sec-fetch-site", "cross-site")],
        vec![cookie, ("origin", "https://evil.example")],
        vec![cookie, ("origin", "null"), ("sec-fetch-site", "cross-site")],
    ] {
        let path = "/fal-ai/lcm-sd15-i2i?prompt=x";
        let answer = gate.send(asked(Method::GET, path, &headers, "")).await;
        assert_eq!(answer.status, 401, "{headers:?}");
    }
    assert!(application.seen().is_empty(), "the cookie counts for nothing");
    let own = call(&gate, RUN, &[cookie, ("origin", "https://draw.example"), ("sec-fetch-site", "same-site")]).await;
    assert_eq!(own.status, 200);
}

#[tokio::test]
async fn the_order_says_which_credential_counts() {
    let application = application().await;
    let both = [("cookie", "session=ended"), ("authorization", "Key 22222222:secret-of-bob")];
    let keys = "[guard.keys]\nenv = \"KEYS\"\n";
    let usual = start(&format!("{}{keys}{ENGINE}", settings(&application.url(), ""))).await;
    assert_eq!(call(&usual, RUN, &both).await.status, 200, "the key is asked first");
    let order = "[guard.identity]\norder = [\"session\", \"keys\"]\n";
    let turned = start(&format!("{order}{}{keys}{ENGINE}", settings(&application.url(), ""))).await;
    assert_eq!(call(&turned, RUN, &both).await.status, 401, "the session is, and a bad one ends it");
    let good = [("cookie", "session=ann"), ("authorization", "Key 22222222:guessed")];
    assert_eq!(call(&turned, RUN, &good).await.status, 200);
    assert_eq!(call(&usual, RUN, &good).await.status, 401);
    let visitors = "[guard.visitors]\nenabled = true\nkeys = { env = \"V\" }\n";
    let guests = start(&format!("{visitors}{}{ENGINE}", settings(&application.url(), ""))).await;
    let answer = with_cookie(&guests, "theme=dark").await;
    assert_eq!(answer.status, 200, "with visitors, the key proxy takes those too");
    let visitor = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(with_cookie(&guests, &format!("{visitor}; session=ended")).await.status, 401, "but no bad session");
}

/// An application in memory: answers 200 with the session as the caller's name, and keeps what it was asked.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<String>>>);

impl Inquire for Memory {
    fn inquire(&self, request: Request<Bytes>) -> Inquiry {
        let cookie = request.headers()["cookie"].to_str().unwrap().to_owned();
        self.0.lock().unwrap().push(cookie.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(match cookie.strip_prefix("session=") {
                Some("ended") => Response::builder().status(401).body(Bytes::new()).unwrap(),
                name => Response::builder().header("x-auth-caller", name.unwrap()).body(Bytes::new()).unwrap(),
            })
        })
    }
}

fn sessions(memory: &Memory, changes: Value) -> Sessions {
    let mut settings = json!({"url": "https://app.example/auth", "cookies": ["session"]});
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    settings.as_object_mut().unwrap().extend(changes);
    let settings: SessionSettings = serde_json::from_value(settings).unwrap();
    Sessions::new(settings, Arc::new(memory.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_session_is_remembered_for_a_moment_and_a_refusal_never() {
    let memory = Memory::default();
    let sessions = sessions(&memory, json!({"cache_s": 5}));
    for _ in 0..10 {
        assert_eq!(&*sessions.check("session=ann").await.unwrap().caller, "ann");
    }
    assert_eq!(memory.0.lock().unwrap().len(), 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(sessions.check("session=ann").await.is_ok());
    assert_eq!(memory.0.lock().unwrap().len(), 2, "after that it is asked again");
    for _ in 0..3 {
        assert!(matches!(sessions.check("session=ended").await, Err(SessionFault::Refused(_))));
    }
    assert_eq!(memory.0.lock().unwrap().len(), 5);
    let always = self::sessions(&memory, json!({"cache_s": 0}));
    assert!(always.check("session=ann").await.is_ok() && always.check("session=ann").await.is_ok());
    assert_eq!(memory.0.lock().unwrap().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn questions_are_bounded_and_whoever_waits_too_long_is_refused() {
    let memory = Memory::default();
    let sessions = sessions(&memory, json!({"at_once": 2, "timeout_ms": 250}));
    let cookies: Vec<String> = (0..8).map(|at| format!("session=user-{at}")).collect();
    let answers = futures_util::future::join_all(cookies.iter().map(|cookie| sessions.check(cookie))).await;
    let (known, late): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((known.len(), late.len()), (4, 4), "two at a time, 100 ms each, for 250 ms");
    assert!(late.into_iter().all(|answer| matches!(answer, Err(SessionFault::Late))));
}
