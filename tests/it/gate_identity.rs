//! Who is calling, on a whole gate: tokens and keys at both doors, who may call what, and what is told of it further in.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::engine_support::within;
use crate::gate_support::{APP, ENGINE, FAL_KEY, Gate, PROXY, RUN, asked, detail, fal_at};
use crate::host_desk::{Answer, input};
use crate::realtime_support::{Page, SOCKET, UNAUTHORIZED, Wishes, metric, stroke};
use crate::support::fake_fal::{FakeFal, Reply};
use crate::support::log::Log;

const JSON: (&str, &str) = ("content-type", "application/json");
const FLUX: &str = "https://fal.run/fal-ai/flux";
const ANN: &str = "Key 11111111:secret-of-ann";
/// A PKCS#8 document of an Ed25519 key up to the seed (RFC 8410 section 7).
const ED25519_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

fn signing_key() -> EncodingKey {
    EncodingKey::from_ed_der(&[&ED25519_HEAD[..], &[7; 32]].concat())
}

/// The login's keys, as it shows them.
pub(crate) fn key_set() -> Vec<u8> {
    let mut jwk = Jwk::from_encoding_key(&signing_key(), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some("k1".to_owned());
    serde_json::to_vec(&JwkSet { keys: vec![jwk] }).unwrap()
}

/// A login that shows its keys, and fal behind the same port.
pub(crate) async fn login_and_fal() -> FakeFal {
    FakeFal::http(|seen| match seen.path_and_query.as_str() {
        "/keys" => Reply::json(200, key_set()),
        _ => Reply::json(200, "{\"from\":\"fal\"}"),
    })
    .await
}

/// A token of the login's, as it stands in `Authorization`.
pub(crate) fn bearer(caller: &str, changes: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims =
        json!({"iss": "https://login.example", "aud": "draw", "sub": caller, "plan": "pro", "exp": now + 60});
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    claims.as_object_mut().unwrap().extend(changes);
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::EdDSA) };
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &signing_key()).unwrap())
}

pub(crate) fn jwt(login: &str) -> String {
    format!(
        "[guard.jwt]\nissuer = \"https://login.example\"\naudience = \"draw\"\nalgorithms = [\"EdDSA\"]\n\
         keys = {{ jwks_url = \"{login}/keys\" }}\ntier_claim = \"plan\"\n"
    )
}

const KEYS: &str = "[guard.keys]\nenv = \"KEYS\"\n";

async fn start(text: &str) -> Gate {
    let keys = "ann 11111111:secret-of-ann tier=pro\nbob 22222222:secret-of-bob";
    Gate::start_in(text, &[("FAL_KEY", FAL_KEY), ("KEYS", keys)], None).await
}

async fn call(gate: &Gate, path: &str, headers: &[(&str, &str)]) -> Answer {
    let headers: Vec<_> = [JSON].into_iter().chain(headers.iter().copied()).collect();
    gate.send(asked(Method::POST, path, &headers, input().to_string())).await
}

async fn proxied(gate: &Gate, target: &str, authorization: Option<&str>) -> Answer {
    let mut headers = vec![("x-fal-target-url", target)];
    headers.extend(authorization.map(|value| ("authorization", value)));
    call(gate, PROXY, &headers).await
}

async fn direct(gate: &Gate, path: &str, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    call(gate, path, &headers).await
}

async fn token(gate: &Gate, authorization: &str) -> Value {
    let path = "/api/fal/token?app=lcm-sd15-i2i";
    gate.send(asked(Method::GET, path, &[("authorization", authorization)], "")).await.json()
}

#[tokio::test]
async fn a_token_of_the_application_is_known_at_both_doors_and_never_goes_on_to_fal() {
    let fal = login_and_fal().await;
    let gate = start(&format!("{}{}{ENGINE}", jwt(&fal.url()), fal_at(&fal.url()))).await;
    let ann = bearer("ann", json!({}));
    assert_eq!(proxied(&gate, RUN, Some(&ann)).await.status, 200);
    assert_eq!(direct(&gate, APP, Some(&ann)).await.status, 200);
    assert_eq!(proxied(&gate, FLUX, Some(&ann)).await.json(), json!({"from": "fal"}));
    assert_eq!(direct(&gate, "/fal-ai/flux", Some(&ann)).await.json(), json!({"from": "fal"}));
    let calls: Vec<_> = fal.seen().into_iter().filter(|seen| seen.path_and_query != "/keys").collect();
    assert_eq!(calls.len(), 2);
    for seen in calls {
        assert_eq!(seen.header("authorization"), Some(&*format!("Key {FAL_KEY}")));
        assert!(!format!("{seen:?}").contains(ann.rsplit('.').next().unwrap()), "{seen:?}");
    }
    let asked = fal.seen().iter().filter(|seen| seen.path_and_query == "/keys").count();
    assert_eq!(asked, 1, "the keys are fetched once, at the start");
}

#[tokio::test]
async fn a_bad_credential_is_401_at_every_door_and_never_nobody() {
    let fal = login_and_fal().await;
    let open = "[guard.identity]\ncallers = \"anonymous\"\n";
    let gate = start(&format!("{open}{}{KEYS}{}{ENGINE}", jwt(&fal.url()), fal_at(&fal.url()))).await;
    let ended = bearer("ann", json!({"exp": 1_000_000_000}));
    let (foreign, nameless) = (bearer("ann", json!({"aud": "other"})), bearer("", json!({})));
    let visitor = bearer("visitor-0123", json!({}));
    let good = bearer("ann", json!({}));
    let cut = &good[..good.len() - 2];
    let bad = [
        &*ended,
        &foreign,
        &nameless,
        &visitor,
        cut,
        "Bearer a.b.c",
        "Bearer nothing-like-a-key",
        "Bearer ",
        "Bearer",
        "Key 11111111:guessed",
        "Key nocolon",
        "Basic eDp5",
        "",
    ];
    for authorization in bad {
        for answer in [
            proxied(&gate, RUN, Some(authorization)).await,
            proxied(&gate, FLUX, Some(authorization)).await,
            direct(&gate, APP, Some(authorization)).await,
            direct(&gate, "/fal-ai/flux", Some(authorization)).await,
            direct(&gate, "/tokens/", Some(authorization)).await,
            gate.send(asked(Method::GET, "/api/fal/token?app=flux", &[("authorization", authorization)], "")).await,
        ] {
            assert_eq!(answer.status, 401, "{authorization}: {answer:?}");
            assert!(!detail(&answer).contains("secret-of"));
        }
    }
    let two = [("authorization", ANN), ("authorization", ANN), ("x-fal-target-url", RUN)];
    assert_eq!(call(&gate, PROXY, &two).await.status, 401, "two good ones are none");
    assert_eq!(fal.seen().len(), 1, "nobody but the login was asked");
    for authorization in [None, Some(ANN), Some(&*good), Some("Bearer 22222222:secret-of-bob")] {
        assert_eq!(proxied(&gate, RUN, authorization).await.status, 200, "{authorization:?}");
        assert_eq!(direct(&gate, APP, authorization).await.status, 200, "{authorization:?}");
    }
    let counted = async |who: &str| metric(&gate, &format!("falgate_callers_total{{who=\"{who}\"}}")).await;
    assert_eq!([counted("refused").await, counted("named").await, counted("nobody").await], [79.0, 6.0, 2.0]);
    let refused = direct(&gate, "/fal-ai/flux", None).await;
    assert_eq!(refused.status, 403, "whoever has no name does not spend the owner's money at this door");
    assert_eq!(fal.seen().len(), 1);
}

#[tokio::test]
async fn each_route_says_who_may_call_it() {
    let fal = login_and_fal().await;
    let row = |app: &str, callers: &str| {
        format!("[[route]]\nendpoint = \"fal-ai/flux/{app}\"\nto = \"upstream\"\ncallers = \"{callers}\"\n")
    };
    let rows = [row("closed", "deny"), row("members", "required"), row("open", "anonymous")].concat();
    let gate = start(&format!("{KEYS}{}{rows}", fal_at(&fal.url()))).await;
    let status = async |app: &str, who| proxied(&gate, &format!("{FLUX}/{app}"), who).await.status.as_u16();
    let mut found = Vec::new();
    for app in ["closed", "members", "open", "unlisted"] {
        found.push([status(app, None).await, status(app, Some(ANN)).await]);
    }
    assert_eq!(found, [[403, 403], [401, 200], [200, 200], [200, 200]]);
    let members = proxied(&gate, &format!("{FLUX}/members"), None).await;
    let words =
        "Cannot access application \"fal-ai/flux/members\". Authentication is required to access this application.";
    assert_eq!(detail(&members), words);
    let calls = fal.seen().len();
    assert_eq!(direct(&gate, "/fal-ai/flux/closed", Some(ANN)).await.status, 403);
    assert_eq!(
        direct(&gate, "/fal-ai/flux/unlisted", None).await.status,
        401,
        "the gate's own paths ask where they can"
    );
    assert_eq!(fal.seen().len(), calls);
}

#[tokio::test]
async fn fals_own_tokens_go_to_those_only_who_may_call_every_row() {
    let fal = login_and_fal().await;
    let rows = "[[route]]\nendpoint = \"fal-ai/flux/**\"\nto = \"upstream\"\ntoken = \"fal\"\ncallers = \"required\"\n";
    let gate =
        start(&format!("{KEYS}{}tokens = true\n{ENGINE}callers = \"anonymous\"\n{rows}", fal_at(&fal.url()))).await;
    let ask = async |app: &str, who: Option<&str>| {
        let mut headers = vec![JSON, ("x-fal-target-url", "https://rest.fal.ai/tokens/")];
        headers.extend(who.map(|who| ("authorization", who)));
        let body = format!("{{\"allowed_apps\":[\"{app}\"]}}");
        gate.send(asked(Method::POST, PROXY, &headers, body)).await.status.as_u16()
    };
    assert_eq!([ask("flux", None).await, ask("lcm-sd15-i2i", None).await], [401, 200]);
    assert!(fal.seen().is_empty(), "a socket with fal's token would go past this gate");
    assert_eq!([ask("flux", Some(ANN)).await, ask("lcm-sd15-i2i", Some(ANN)).await], [200, 200]);
    assert_eq!(fal.only().path_and_query, "/tokens/");
}

#[tokio::test]
async fn where_the_application_has_logins_the_key_proxy_asks_for_one() {
    let fal = login_and_fal().await;
    let gate = start(&format!("{}{}{ENGINE}", jwt(&fal.url()), fal_at(&fal.url()))).await;
    for answer in [proxied(&gate, RUN, None).await, proxied(&gate, FLUX, None).await, direct(&gate, APP, None).await] {
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    assert_eq!(gate.get("/api/fal/token?app=lcm-sd15-i2i").await.status, 401);
    assert_eq!(gate.get(&format!("{APP}/health")).await.status, 200, "health is public");
    let mut page = Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={}", minted(None))).await;
    assert_eq!(page.last_words().await, (vec![UNAUTHORIZED.to_owned()], 1000), "a token without a name");
    let ann = token(&gate, &bearer("ann", json!({}))).await;
    let mut page = Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={}", ann.as_str().unwrap())).await;
    page.text(&stroke("in")).await;
    assert_eq!(page.next_text().await["request_id"], "in");
}

/// A token for the engine's app that the owner minted by hand.
fn minted(caller: Option<&str>) -> String {
    use secrecy::ExposeSecret as _;
    let grant = falgate::guard::Grant {
        caller: caller.map(Into::into),
        tier: None,
        apps: vec!["lcm-sd15-i2i".to_owned()],
        life: None,
        origin: None,
        now: SystemTime::now(),
    };
    crate::realtime_support::tokens().mint(&grant).unwrap().token.expose_secret().to_owned()
}

#[tokio::test]
async fn limits_are_charged_to_the_name_and_tier_that_a_credential_has() {
    let fal = login_and_fal().await;
    let rule = |name: &str, tier: &str, amount: u32| {
        format!(
            "[[limits.rule]]\nname = \"{name}\"\nof = \"requests\"\nby = \"caller\"\namount = {amount}\n\
             per_ms = 3600000\ntiers = [\"{tier}\"]\n"
        )
    };
    let rules = [rule("pros", "pro", 3), rule("others", "anonymous", 1)].concat();
    let text = format!("[guard.identity]\ncallers = \"anonymous\"\n{}{KEYS}{ENGINE}{rules}", jwt(&fal.url()));
    let gate = start(&text).await;
    let mut found = Vec::new();
    for who in [Some(ANN.to_owned()), Some("Key 22222222:secret-of-bob".to_owned()), None] {
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(direct(&gate, APP, who.as_deref()).await.status.as_u16());
        }
        found.push(statuses);
    }
    assert_eq!(found, [[200, 200, 200, 429], [200, 429, 429, 429], [200, 429, 429, 429]]);
    let cleo = bearer("cleo", json!({}));
    assert_eq!(proxied(&gate, RUN, Some(&cleo)).await.status, 200);
    assert_eq!(proxied(&gate, RUN, Some(&bearer("ann", json!({})))).await.status, 429, "ann by token is ann by key");
}

#[tokio::test]
async fn a_socket_is_counted_on_the_name_and_tier_of_whoever_asked_for_its_token() {
    let fal = login_and_fal().await;
    let most = "[[limits.at_once]]\nname = \"one\"\nof = \"sockets\"\nby = \"caller\"\nmost = 1\ntiers = [\"free\"]\n";
    let gate = start(&format!("{}{ENGINE}{most}", jwt(&fal.url()))).await;
    let mut pages = Vec::new();
    for (caller, plan) in [("ann", "pro"), ("ann", "pro"), ("bob", "free"), ("cleo", "free")] {
        let token = token(&gate, &bearer(caller, json!({"plan": plan}))).await;
        let token = token.as_str().unwrap();
        let claims: Value = jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims;
        assert_eq!((&claims["sub"], &claims["tier"]), (&json!(caller), &json!(plan)));
        pages.push(Page::at(gate.address, &format!("{SOCKET}?fal_jwt_token={token}")).await);
    }
    let again = token(&gate, &bearer("bob", json!({"plan": "free"}))).await;
    let path = format!("{SOCKET}?fal_jwt_token={}", again.as_str().unwrap());
    let refused = Page::wishing(gate.address, &path, &Wishes::default()).await;
    assert_eq!(refused.err(), Some(429), "bob has one open");
    let by_key = [("authorization", ANN)];
    let keyed = start(&format!("{KEYS}{ENGINE}{}", most.replace("free", "pro"))).await;
    let wishes = Wishes { headers: &by_key, ..Wishes::default() };
    let _first = Page::wishing(keyed.address, SOCKET, &wishes).await.unwrap();
    assert_eq!(Page::wishing(keyed.address, SOCKET, &wishes).await.err(), Some(429), "the tier of a key counts too");
}

#[tokio::test]
async fn a_closed_route_opens_no_socket_and_a_members_route_only_theirs() {
    for (callers, nobody, ann) in [("deny", Ok(false), Ok(false)), ("required", Ok(false), Ok(true))] {
        let gate = start(&format!("{ENGINE}callers = \"{callers}\"\n{KEYS}")).await;
        for (token, wanted) in [(minted(None), nobody), (minted(Some("visitor-1")), nobody), (minted(Some("ann")), ann)]
        {
            let path = format!("{SOCKET}?fal_jwt_token={token}");
            let page = Page::wishing(gate.address, &path, &Wishes::default()).await;
            let found = match page {
                Err(status) => Err(status),
                Ok(mut page) => {
                    page.text(&stroke("in")).await;
                    Ok(page.next_text().await["request_id"] == "in")
                }
            };
            assert_eq!(found, wanted, "{callers}");
        }
    }
}

#[tokio::test]
async fn access_keys_change_without_a_restart_and_a_broken_file_changes_nothing() {
    let log = Log::default();
    // A second dispatcher: with a single one, tracing remembers what other tests did not want to hear.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    let _listening = tracing::dispatcher::set_default(&tracing::Dispatch::new(subscriber));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access-keys");
    let new = falgate::guard::NewKey::make(Some("cleo"), Some("pro")).unwrap();
    std::fs::write(&path, "ann 11111111:secret-of-ann\n").unwrap();
    let gate = Gate::start(&format!("{ENGINE}[guard.keys]\nfile = {path:?}\n")).await;
    let cleo = format!("Key {}", secrecy::ExposeSecret::expose_secret(&new.key));
    assert_eq!(direct(&gate, APP, Some(ANN)).await.status, 200);
    assert_eq!(direct(&gate, APP, Some(&cleo)).await.status, 401);
    std::fs::write(&path, format!("{}\n", new.line)).unwrap();
    gate.reload();
    within(async { while direct(&gate, APP, Some(&cleo)).await.status != 200 {} }).await;
    assert_eq!(direct(&gate, APP, Some(ANN)).await.status, 401);
    std::fs::write(&path, "cleo sha256:00\n").unwrap();
    gate.reload();
    within(async {
        while !log.text().contains("kept the access keys at hand") {
            assert_eq!(direct(&gate, APP, Some(&cleo)).await.status, 200, "no call is dropped meanwhile");
        }
    })
    .await;
    assert_eq!(direct(&gate, APP, Some(&cleo)).await.status, 200);
}
