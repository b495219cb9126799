//! A gate that could not find out who calls does not start.

use falgate::config::{Config, Environment};
use falgate::gate::{AssembleError, IdentityError, Outside, ServeError, bind};
use prometheus_client::registry::Registry;

use crate::gate_identity::{jwt, key_set, login_and_fal};
use crate::support::fake_fal::{FakeFal, Reply};

async fn refusal(text: &str, variables: &[(&str, &str)]) -> Option<IdentityError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let environment = Environment::new(variables).with_flag("--listen", "gate.listen", "\"127.0.0.1:0\"").with_flag(
        "--token-keys",
        "guard.tokens.keys",
        "\"memory\"",
    );
    let config = Config::load(text, &environment).unwrap_or_else(|faults| panic!("{faults}"));
    let outside = Outside { engine: None, log: None, look_up: &|name| environment.look_up(name) };
    match bind(&config, outside, Registry::default()).await.err() {
        Some(ServeError::Assemble(AssembleError::Identity(error))) => Some(error),
        None => None,
        Some(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_check_that_cannot_be_made_stops_the_start() {
    let down = FakeFal::http(|_| Reply::json(500, "{}")).await;
    let empty = FakeFal::http(|_| Reply::json(200, "{\"keys\":[]}")).await;
    let elsewhere = FakeFal::http(|_| Reply::json(302, "").header("location", "https://login.example/keys")).await;
    let large = FakeFal::http(|_| Reply::json(200, vec![b' '; 300 * 1024])).await;
    for login in [&down, &empty, &elsewhere, &large] {
        let error = refusal(&jwt(&login.url()), &[]).await.expect("no keys, no gate");
        assert!(matches!(error, IdentityError::Jwt(_)), "{error}");
    }
    assert_eq!(elsewhere.seen().len(), 1, "a redirect is not followed");
    let good = login_and_fal().await;
    assert!(refusal(&jwt(&good.url()), &[]).await.is_none());
    let secret =
        jwt("https://x").replace("EdDSA", "HS256").replace("jwks_url = \"https://x/keys\"", "secret_env = \"S\"");
    assert!(matches!(refusal(&secret, &[]).await, Some(IdentityError::Jwt(_))));
    assert!(matches!(refusal(&secret, &[("S", "short")]).await, Some(IdentityError::Jwt(_))));
    assert!(refusal(&secret, &[("S", "a secret of more than thirty-two bytes")]).await.is_none());
    let human = "[guard.visitors]\nenabled = true\nkeys = \"memory\"\n[guard.human]\nprovider = \"turnstile\"\n\
                 secret = { env = \"W\" }\n";
    assert!(matches!(refusal(human, &[]).await, Some(IdentityError::Human(_))));
    assert!(matches!(refusal(human, &[("W", "  ")]).await, Some(IdentityError::Human(_))));
    assert!(refusal(human, &[("W", "widget-secret")]).await.is_none());
    let visitors = "[guard.visitors]\nenabled = true\nkeys = { env = \"V\" }\n";
    assert!(matches!(refusal(visitors, &[]).await, Some(IdentityError::Visitors(_))));
}

#[tokio::test]
async fn keys_come_over_tls_under_an_authority_of_ones_own() {
    let set = key_set();
    let login = FakeFal::https(move |_| Reply::json(200, set.clone()), &["h2", "http/1.1"]).await;
    assert!(matches!(refusal(&jwt(&login.url()), &[]).await, Some(IdentityError::Jwt(_))), "nobody vouches for it");
    let trusting = format!("[guard.identity]\nca_file = {:?}\n{}", login.ca_file(), jwt(&login.url()));
    assert!(refusal(&trusting, &[]).await.is_none());
}

#[test]
fn settings_that_cannot_be_meant_are_faults() {
    let faults = |text: &str| match Config::load(text, &Environment::default()) {
        Ok(_) => String::new(),
        Err(faults) => faults.to_string(),
    };
    for (text, key) in [
        (jwt("http://login.example"), "guard.jwt.keys.jwks_url"),
        ("[guard.identity]\norder = [\"keys\", \"keys\"]\n".to_owned(), "guard.identity.order"),
        ("[guard.identity]\norder = [\"visitor\", \"keys\"]\n".to_owned(), "guard.identity.order"),
        (format!("[guard.identity]\norder = [\"keys\"]\n{}", jwt("https://login.example")), "guard.identity.order"),
        ("[guard.identity]\ncallers = \"required\"\n".to_owned(), "guard.identity.callers"),
        ("[guard.human]\nprovider = \"turnstile\"\nsecret = { env = \"X\" }\n".to_owned(), "guard.human"),
        ("[guard.session]\nurl = \"http://app.example/auth\"\ncookies = [\"s\"]\n".to_owned(), "guard.session.url"),
        ("[guard.session]\nurl = \"https://app.example/auth\"\ncookies = []\n".to_owned(), "guard.session.cookies"),
        (
            "[guard.origins]\nallow = [\"*\"]\n[guard.session]\nurl = \"https://app.example/auth\"\ncookies = [\"s\"]\n"
                .to_owned(),
            "guard.session",
        ),
        (
            "proxy.targets.tokens = true\n[[route]]\nendpoint = \"a/b\"\nto = \"upstream\"\ntoken = \"fal\"\ncallers = \"deny\"\n"
                .to_owned(),
            "route[0].callers",
        ),
    ] {
        assert!(faults(&text).contains(key), "{key}: {}", faults(&text));
    }
}
