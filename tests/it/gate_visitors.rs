//! Callers without a name on a whole gate: the cookie by which they are known again, and the check that they are people.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::engine_support::within;
use crate::gate_support::{APP, ENGINE, FAL_KEY, Gate, Line, PROXY, RUN, asked, detail, fal_at};
use crate::host_desk::{Answer, input};
use crate::realtime_support::{Page, SOCKET, UNAUTHORIZED, stroke};
use crate::support::fake_fal::{FakeFal, Reply};

const JSON: (&str, &str) = ("content-type", "application/json");
const VISITORS: &str = "[guard.visitors]\nenabled = true\nkeys = { env = \"VISITOR_KEYS\" }\n";
const KEYS: &str = "HS256 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER_KEYS: &str = "HS256 BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";
/// Three calls an hour for each caller.
const RULES: &str = "[[limits.rule]]\nname = \"caller\"\nof = \"requests\"\nby = \"caller\"\namount = 3\nper_ms = 3600000\n\
                     tiers = [\"anonymous\"]\n";

async fn start(text: &str, keys: &str) -> Gate {
    Gate::start_in(text, &[("FAL_KEY", FAL_KEY), ("VISITOR_KEYS", keys), ("WIDGET", "widget-canary")], None).await
}

async fn call(gate: &Gate, cookie: Option<&str>) -> Answer {
    let mut headers = vec![JSON, ("x-fal-target-url", RUN)];
    headers.extend(cookie.map(|cookie| ("cookie", cookie)));
    gate.send(asked(Method::POST, PROXY, &headers, input().to_string())).await
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie(answer: &Answer) -> Option<String> {
    let mut all = answer.headers.get_all("set-cookie").into_iter();
    let text = all.next()?.to_str().unwrap();
    assert!(all.next().is_none(), "{answer:?}");
    assert!(answer.header("cache-control").contains("no-store"), "no cache gives it to others: {answer:?}");
    for attribute in ["Path=/", "HttpOnly", "SameSite=Lax", "Max-Age=2592000"] {
        assert!(text.split("; ").any(|found| found == attribute), "{attribute}: {text}");
    }
    let pair = text.split(';').next().unwrap();
    assert!(pair.starts_with("falgate_visitor="), "{text}");
    Some(pair.to_owned())
}

/// Who a token for a socket says is calling.
async fn caller(gate: &Gate, cookie: &str) -> (Value, Value) {
    let path = "/api/fal/token?app=lcm-sd15-i2i";
    let answer = gate.send(asked(Method::GET, path, &[("cookie", cookie)], "")).await;
    let token = answer.json();
    let claims: Value = jsonwebtoken::dangerous::insecure_decode(token.as_str().unwrap()).unwrap().claims;
    (claims["sub"].clone(), claims["tier"].clone())
}

#[tokio::test]
async fn a_visitor_is_known_again_from_the_second_call_on_and_over_restarts() {
    let gate = start(&format!("{VISITORS}{ENGINE}"), KEYS).await;
    let first = cookie(&call(&gate, None).await).expect("a new visitor gets a cookie");
    assert!(!first.contains("Secure"), "this gate is reached without TLS");
    assert_eq!(cookie(&call(&gate, Some(&first)).await), None, "and keeps it");
    let (name, tier) = caller(&gate, &first).await;
    assert!(name.as_str().unwrap().starts_with("visitor-"), "{name}");
    assert_eq!(tier, json!("anonymous"));
    let other = cookie(&call(&gate, None).await).unwrap();
    assert_ne!(caller(&gate, &other).await.0, name);
    let restarted = start(&format!("{VISITORS}{ENGINE}"), KEYS).await;
    assert_eq!(caller(&restarted, &format!("theme=dark; {first}; lang=en")).await.0, name);
    let off = Gate::start(ENGINE).await;
    assert_eq!(cookie(&call(&off, Some(&first)).await), None, "only by switch");
}

#[tokio::test]
async fn a_forged_cookie_is_replaced_and_names_nobody() {
    let (gate, stranger) = (start(&format!("{VISITORS}{ENGINE}"), KEYS).await, format!("{VISITORS}{ENGINE}"));
    let stranger = start(&stranger, OTHER_KEYS).await;
    let good = cookie(&call(&gate, None).await).unwrap();
    let foreign = cookie(&call(&stranger, None).await).unwrap();
    let (head, signature) = good.rsplit_once('.').unwrap();
    let swapped: String = signature.chars().rev().collect();
    let unsigned = format!("{head}.");
    let socket = crate::realtime_support::token();
    for forged in [
        foreign,
        format!("{head}.{swapped}"),
        unsigned,
        "falgate_visitor=visitor-0123".to_owned(),
        "falgate_visitor=".to_owned(),
        format!("falgate_visitor={socket}"),
    ] {
        let answer = call(&gate, Some(&forged)).await;
        assert_eq!(answer.status, 200, "{forged}");
        let new = cookie(&answer).expect("it is replaced");
        assert_ne!(new, forged);
        assert_eq!(caller(&gate, &forged).await.0, Value::Null, "{forged}");
        assert_ne!(caller(&gate, &new).await.0, caller(&gate, &good).await.0);
    }
    let value = good.split_once('=').unwrap().1;
    let mut page = Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={value}")).await;
    assert_eq!(page.last_words().await, (vec![UNAUTHORIZED.to_owned()], 1000), "a cookie opens no socket");
}

#[tokio::test]
async fn throwing_the_cookie_away_gains_no_fresh_share_of_a_limit() {
    let gate = start(&format!("{VISITORS}{ENGINE}{RULES}"), KEYS).await;
    let (mut statuses, mut cookies) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let answer = call(&gate, None).await;
        statuses.push(answer.status.as_u16());
        cookies.extend(cookie(&answer));
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429], "without it the address is charged");
    assert_eq!(cookies.len(), 3, "a refusal gives none, so that a limit on addresses bounds how many there are");
    for _ in 0..3 {
        assert_eq!(call(&gate, Some(&cookies[0])).await.status, 200, "each visitor has a share");
    }
    assert_eq!(call(&gate, Some(&cookies[0])).await.status, 429);
}

#[tokio::test]
async fn a_visitors_cookie_never_goes_on_to_fal_and_fals_never_comes_back() {
    let fal = FakeFal::http(|_| Reply::json(200, "{}").header("set-cookie", "falgate_visitor=fals; Path=/")).await;
    let gate = start(&format!("{VISITORS}{}{ENGINE}", fal_at(&fal.url())), KEYS).await;
    let mine = cookie(&call(&gate, None).await).unwrap();
    let headers = [JSON, ("x-fal-target-url", "https://fal.run/fal-ai/flux"), ("cookie", &*mine)];
    let answer = gate.send(asked(Method::POST, PROXY, &headers, "{}")).await;
    assert_eq!((answer.status.as_u16(), cookie(&answer)), (200, None));
    let seen = fal.only();
    assert_eq!(seen.header("cookie"), None);
    assert!(!format!("{seen:?}").contains(mine.rsplit('.').next().unwrap()));
}

#[tokio::test]
async fn the_page_is_where_a_visit_begins_and_https_makes_the_cookie_secure() {
    let page = "[playground]\nenabled = true\n";
    let gate = start(&format!("{page}{VISITORS}{ENGINE}"), KEYS).await;
    let answer = gate.get("/").await;
    let mine = cookie(&answer).expect("the page gives one");
    assert_eq!(cookie(&gate.send(asked(Method::GET, "/", &[("cookie", &*mine)], "")).await), None);
    assert_eq!(cookie(&gate.get("/falgate.js").await), None, "scripts may stand in caches");
    assert_eq!(cookie(&gate.post(APP, input().to_string()).await), None, "servers at the direct door need none");
    let behind = start(&format!("gate.public_url = \"https://draw.example\"\n{page}{VISITORS}{ENGINE}"), KEYS).await;
    let secure = behind.get("/").await.headers["set-cookie"].to_str().unwrap().ends_with("; Secure");
    assert!(secure, "browsers come over TLS, whatever the gate itself speaks");
}

#[tokio::test]
async fn a_page_of_another_site_does_not_call_in_a_visitors_name() {
    let gate = start(&format!("{VISITORS}{ENGINE}{RULES}"), KEYS).await;
    let mine = cookie(&call(&gate, None).await).unwrap();
    let name = caller(&gate, &mine).await.0;
    let sent = |site: &'static str, more: Option<(&'static str, &'static str)>| {
        let mut headers = vec![("cookie", mine.as_str()), ("sec-fetch-site", site)];
        headers.extend(more);
        asked(Method::GET, &format!("{APP}?prompt=x"), &headers, "")
    };
    // The share of the visitor is spent to one call; a picture tag on another site must not spend it.
    assert!(name.as_str().is_some());
    for _ in 0..6 {
        gate.send(sent("cross-site", None)).await;
        gate.send(sent("cross-site", Some(("origin", "https://evil.example")))).await;
    }
    assert_eq!(call(&gate, Some(&mine)).await.status, 200);
}

/// A provider that knows one good token of one page.
async fn provider(up: Arc<AtomicBool>) -> FakeFal {
    FakeFal::http(move |seen| {
        if !up.load(Ordering::SeqCst) {
            return Reply::json(500, "out of order");
        }
        assert_eq!((seen.method.as_str(), &*seen.path_and_query), ("POST", "/siteverify"));
        let form = String::from_utf8(seen.body.to_vec()).unwrap();
        let field = |name: &str| {
            let pair = form.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
            percent_encoding::percent_decode_str(pair.unwrap_or_default()).decode_utf8().unwrap().into_owned()
        };
        assert_eq!(field("remoteip"), "127.0.0.1");
        let answer = match (&*field("secret"), &*field("response")) {
            ("widget-canary", "solved&secret=evil") => {
                json!({"success": true, "hostname": "gate.test", "action": "draw"})
            }
            ("widget-canary", "elsewhere") => json!({"success": true, "hostname": "evil.test", "action": "draw"}),
            ("widget-canary", "other-action") => json!({"success": true, "hostname": "gate.test", "action": "login"}),
            ("widget-canary", "no-hostname") => json!({"success": true}),
            ("widget-canary", _) => json!({"success": false, "error-codes": ["timeout-or-duplicate"]}),
            _ => json!({"success": false, "error-codes": ["invalid-input-secret"]}),
        };
        Reply::json(200, answer.to_string())
    })
    .await
}

fn human(url: &str) -> String {
    format!(
        "{VISITORS}[guard.human]\nprovider = \"turnstile\"\nsecret = {{ env = \"WIDGET\" }}\nhostnames = [\"gate.test\"]\n\
         action = \"draw\"\nverify_url = \"{url}/siteverify\"\n{ENGINE}"
    )
}

async fn solve(gate: &Gate, body: impl Into<bytes::Bytes>) -> Answer {
    gate.send(asked(Method::POST, "/api/fal/human", &[JSON], body)).await
}

#[tokio::test]
async fn without_the_human_check_nobody_without_a_name_calls() {
    let up = Arc::new(AtomicBool::new(true));
    let provider = provider(Arc::clone(&up)).await;
    let gate = start(&human(&provider.url()), KEYS).await;
    // A cookie of the same keys, from before the check was asked for.
    let before = start(&format!("{VISITORS}{ENGINE}"), KEYS).await;
    let unchecked = cookie(&call(&before, None).await).unwrap();
    for shown in [None, Some(unchecked.as_str()), Some("falgate_visitor=x")] {
        let answer = call(&gate, shown).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-fal-error-type")), (401, "human_check_required"));
        assert_eq!(answer.json()["error_type"], "human_check_required");
        assert_eq!(cookie(&answer), None, "the gate gives none away");
        detail(&answer);
    }
    assert_eq!(gate.get("/api/fal/token?app=lcm-sd15-i2i").await.status, 401);
    for (token, status) in [
        ("made-up", 403),
        ("", 403),
        ("elsewhere", 403),
        ("other-action", 403),
        ("no-hostname", 403),
        (&*"x".repeat(9000), 403),
    ] {
        let answer = solve(&gate, json!({"token": token}).to_string()).await;
        assert_eq!((answer.status.as_u16(), cookie(&answer)), (status, None), "{token:.20}");
    }
    for (body, status) in [("", 422), ("{}", 422), ("token=x", 422), ("[1]", 422)] {
        assert_eq!(solve(&gate, body).await.status, status, "{body}");
    }
    assert_eq!(solve(&gate, vec![b' '; 17 * 1024]).await.status, 413);
    assert_eq!(gate.get("/api/fal/human").await.status, 405);
    let solved = solve(&gate, json!({"token": "solved&secret=evil"}).to_string()).await;
    assert_eq!(solved.status, 204);
    let mine = cookie(&solved).unwrap();
    assert_eq!(call(&gate, Some(&mine)).await.status, 200);
    assert!(caller(&gate, &mine).await.0.as_str().unwrap().starts_with("visitor-"));
    let path = "/api/fal/token?app=lcm-sd15-i2i";
    let token = gate.send(asked(Method::GET, path, &[("cookie", &*mine)], "")).await.json();
    let mut page = Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={}", token.as_str().unwrap())).await;
    page.text(&stroke("in")).await;
    assert_eq!(page.next_text().await["request_id"], "in");
    up.store(false, Ordering::SeqCst);
    let down = solve(&gate, json!({"token": "solved&secret=evil"}).to_string()).await;
    assert_eq!((down.status.as_u16(), cookie(&down)), (503, None), "a check that cannot be made lets nobody in");
    assert_eq!(call(&gate, Some(&mine)).await.status, 200, "who has passed is not asked again");
    let foreign = asked(Method::POST, "/api/fal/human", &[JSON, ("origin", "https://evil.example")], "{}");
    assert_eq!(gate.send(foreign).await.status, 403);
}

#[tokio::test]
async fn made_up_tokens_of_one_site_keep_nobody_else_from_the_human_check() {
    let passed = json!({"success": true, "hostname": "gate.test", "action": "draw"}).to_string();
    let is_slow = |body: &[u8]| body.windows(4).any(|part| part == b"slow");
    let provider =
        FakeFal::http(
            move |request| {
                if is_slow(&request.body) { Reply::never() } else { Reply::json(200, passed.clone()) }
            },
        )
        .await;
    let text = format!("[guard.address]\ntrusted_proxies = [\"127.0.0.0/8\"]\n{}", human(&provider.url()));
    let gate = start(&text, KEYS).await;
    let from = |address: String, token: &str| {
        let body = json!({"token": token}).to_string();
        asked(Method::POST, "/api/fal/human", &[JSON, ("x-forwarded-for", &*address)], body)
    };
    let mut held = Vec::new();
    for at in 0..4 {
        let mut line = Line::to(gate.address).await;
        let request = from(format!("2001:db8:1:{at}::1"), "slow");
        held.push(tokio::spawn(async move { line.send(request).await }));
    }
    within(async {
        while provider.seen().len() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let fifth = gate.send(from("2001:db8:1:99::1".to_owned(), "slow")).await;
    assert_eq!((fifth.status.as_u16(), cookie(&fifth)), (429, None), "a /48 is one site");
    assert_eq!(gate.send(from("2001:db8:2::1".to_owned(), "solved")).await.status, 204);
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_secret_that_the_provider_does_not_take_is_the_operators_fault() {
    let provider = provider(Arc::new(AtomicBool::new(true))).await;
    let variables = [("VISITOR_KEYS", KEYS), ("WIDGET", "wrong")];
    let gate = Gate::start_in(&human(&provider.url()), &variables, None).await;
    let answer = solve(&gate, json!({"token": "solved&secret=evil"}).to_string()).await;
    assert_eq!((answer.status.as_u16(), cookie(&answer)), (503, None));
    let hcaptcha = human(&provider.url()).replace("turnstile", "hcaptcha").replace("action = \"draw\"\n", "");
    let gate = start(&hcaptcha, KEYS).await;
    assert_eq!(solve(&gate, json!({"token": "other-action"}).to_string()).await.status, 204, "it tells no action");
    assert_eq!(solve(&gate, json!({"token": "elsewhere"}).to_string()).await.status, 403);
    let none = start(&format!("{VISITORS}{ENGINE}"), KEYS).await;
    assert_eq!(solve(&none, json!({"token": "x"}).to_string()).await.status, 404);
}
