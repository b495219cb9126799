//! The application's own tokens: who is believed, who is not, and how often the issuer is asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use falgate::guard::{AskKeys, AskedKeys, JwtFault, JwtSettings, JwtVerifier, KeysError};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of more than thirty-two bytes";

/// A PKCS#8 document of an Ed25519 key up to the seed (RFC 8410 section 7).
const ED25519_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// An issuer with one key, and the set that it shows.
struct Issuer {
    id: String,
    algorithm: Algorithm,
    sign: EncodingKey,
    /// The public key in PEM, where it was made here.
    public: String,
}

impl Issuer {
    fn new(id: &str, algorithm: Algorithm) -> Self {
        let ec = |curve| {
            let pair = KeyPair::generate_for(curve).unwrap();
            (EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(), pair.public_key_pem())
        };
        let (sign, public) = match algorithm {
            Algorithm::EdDSA => (EncodingKey::from_ed_der(&[&ED25519_HEAD[..], &[7; 32]].concat()), String::new()),
            Algorithm::ES256 => ec(&PKCS_ECDSA_P256_SHA256),
            Algorithm::ES384 => ec(&PKCS_ECDSA_P384_SHA384),
            _ => {
                let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
                (EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(), pair.public_key_pem())
            }
        };
        Self { id: id.to_owned(), algorithm, sign, public }
    }

    fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.sign, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        jwk
    }

    fn token(&self, changes: Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, &claims(changes), &self.sign).unwrap()
    }
}

fn claims(changes: Value) -> Value {
    let mut claims =
        json!({"iss": "https://login.example", "aud": "draw", "sub": "ann", "plan": "pro", "exp": NOW + 60});
    let Value::Object(changes) = changes else { panic!("changes are an object") };
    for (key, value) in changes {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(&key)),
            value => claims[key] = value,
        }
    }
    claims
}

/// Where key sets are fetched from.
#[derive(Clone, Default)]
struct Login {
    shown: Arc<Mutex<Option<Vec<Jwk>>>>,
    asked: Arc<AtomicUsize>,
}

impl Login {
    fn show(&self, issuers: &[&Issuer]) {
        *self.shown.lock().unwrap() = Some(issuers.iter().map(|issuer| issuer.jwk()).collect());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl AskKeys for Login {
    fn ask(&self, url: &str) -> AskedKeys {
        assert_eq!(url, "https://login.example/keys");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let set = self.shown.lock().unwrap().clone().map(|keys| serde_json::to_vec(&JwkSet { keys }).unwrap());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            set.map(Bytes::from).ok_or_else(|| "the login is down".into())
        })
    }
}

fn settings(keys: &Value, algorithms: &Value) -> JwtSettings {
    serde_json::from_value(json!({
        "issuer": "https://login.example", "audience": "draw", "algorithms": algorithms, "keys": keys,
        "tier_claim": "plan", "required_claims": ["exp"], "leeway_s": 5, "refresh_s": 600,
    }))
    .unwrap()
}

async fn by_set(login: &Login) -> Result<JwtVerifier, KeysError> {
    let settings = settings(&json!({"jwks_url": "https://login.example/keys"}), &json!(["ES256", "EdDSA"]));
    JwtVerifier::open(settings, |_| None, Arc::new(login.clone())).await
}

async fn by_secret() -> JwtVerifier {
    let settings = settings(&json!({"secret_env": "SECRET"}), &json!(["HS256"]));
    JwtVerifier::open(settings, |_| Some(SECRET.to_owned()), Arc::new(Login::default())).await.unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_issuer_names_caller_and_tier() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let (login, issuer) = (Login::default(), Issuer::new("k1", algorithm));
        login.show(&[&issuer]);
        let verifier = by_set(&login).await.unwrap();
        let known = verifier.check(&issuer.token(json!({})), at(NOW)).await.unwrap();
        assert_eq!((&*known.caller, known.tier.as_deref(), known.until), ("ann", Some("pro"), NOW + 60));
        let number = verifier.check(&issuer.token(json!({"sub": 7, "plan": null})), at(NOW)).await.unwrap();
        assert_eq!((&*number.caller, number.tier), ("7", None));
    }
}

#[tokio::test(start_paused = true)]
async fn every_asymmetric_algorithm_is_believed_by_key_set_and_by_pem_file_and_by_no_other_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("public.pem");
    let open = async |keys: Value, name: &str, login: &Login| {
        JwtVerifier::open(settings(&keys, &json!([name])), |_| None, Arc::new(login.clone())).await
    };
    let rows = [
        (Algorithm::RS256, "RS256", "PS256"),
        (Algorithm::RS512, "RS512", "RS256"),
        (Algorithm::PS384, "PS384", "RS384"),
        (Algorithm::ES256, "ES256", "ES384"),
        (Algorithm::ES384, "ES384", "ES256"),
    ];
    for (algorithm, name, other) in rows {
        let (login, issuer) = (Login::default(), Issuer::new("k1", algorithm));
        let stranger = Issuer::new("k1", algorithm);
        login.show(&[&issuer]);
        std::fs::write(&file, &issuer.public).unwrap();
        for keys in [json!({"jwks_url": "https://login.example/keys"}), json!({"pem_file": file})] {
            let verifier = open(keys.clone(), name, &login).await.unwrap();
            let known = verifier.check(&issuer.token(json!({})), at(NOW)).await.unwrap();
            assert_eq!((&*known.caller, known.tier.as_deref()), ("ann", Some("pro")), "{name} {keys}");
            let forged = verifier.check(&stranger.token(json!({})), at(NOW)).await;
            assert_eq!(forged.unwrap_err(), JwtFault::Signature, "{name} {keys}");
            if let Ok(narrow) = open(keys.clone(), other, &login).await {
                assert!(
                    narrow.check(&issuer.token(json!({})), at(NOW)).await.is_err(),
                    "{name} where {other} is asked for"
                );
            }
        }
    }
    std::fs::write(&file, "no key").unwrap();
    assert!(open(json!({"pem_file": file}), "RS256", &Login::default()).await.is_err(), "no key, no start");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_asked_for_must_be_there() {
    let (login, issuer) = (Login::default(), Issuer::new("k1", Algorithm::ES256));
    login.show(&[&issuer]);
    let keys = json!({"jwks_url": "https://login.example/keys"});
    let mut settings = settings(&keys, &json!(["ES256"]));
    settings.required_claims = vec!["email".to_owned()];
    let verifier = JwtVerifier::open(settings, |_| None, Arc::new(login)).await.unwrap();
    let lacks = JwtFault::Lacks { claim: "email".to_owned() };
    assert_eq!(verifier.check(&issuer.token(json!({})), at(NOW)).await.unwrap_err(), lacks);
    assert!(verifier.check(&issuer.token(json!({"email": "ann@draw.example"})), at(NOW)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whatever_is_not_right_is_refused() {
    let (login, issuer, other) =
        (Login::default(), Issuer::new("k1", Algorithm::ES256), Issuer::new("k1", Algorithm::ES256));
    login.show(&[&issuer]);
    let verifier = by_set(&login).await.unwrap();
    let lacks = |claim: &str| JwtFault::Lacks { claim: claim.to_owned() };
    let rows = [
        (issuer.token(json!({"exp": NOW - 6})), JwtFault::Time),
        (issuer.token(json!({"nbf": NOW + 6})), JwtFault::Time),
        (issuer.token(json!({"iss": "https://evil.example"})), JwtFault::Foreign),
        (issuer.token(json!({"aud": "other"})), JwtFault::Foreign),
        (issuer.token(json!({"iss": null})), lacks("iss")),
        (issuer.token(json!({"aud": null})), lacks("aud")),
        (issuer.token(json!({"exp": null})), lacks("exp")),
        (issuer.token(json!({"sub": null})), lacks("sub")),
        (issuer.token(json!({"sub": ""})), lacks("sub")),
        (issuer.token(json!({"sub": "x".repeat(257)})), lacks("sub")),
        (issuer.token(json!({"sub": "ann\nbob"})), lacks("sub")),
        (other.token(json!({})), JwtFault::Signature),
        ("a.b.c".to_owned(), JwtFault::Malformed),
        (String::new(), JwtFault::Malformed),
        (format!("{}x", "a.".repeat(9000)), JwtFault::Malformed),
    ];
    for (token, fault) in rows {
        assert_eq!(verifier.check(&token, at(NOW)).await.unwrap_err(), fault, "{token:.80}");
    }
    assert!(verifier.check(&issuer.token(json!({"exp": NOW - 4})), at(NOW)).await.is_ok(), "the leeway holds");
}

#[tokio::test(start_paused = true)]
async fn a_public_key_is_never_taken_for_a_secret() {
    let (login, issuer) = (Login::default(), Issuer::new("k1", Algorithm::ES256));
    login.show(&[&issuer]);
    let verifier = by_set(&login).await.unwrap();
    // The classic: an HMAC over the public key that everybody can fetch.
    let public = serde_json::to_vec(&issuer.jwk()).unwrap();
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &claims(json!({})), &EncodingKey::from_secret(&public)).unwrap();
    assert_eq!(verifier.check(&forged, at(NOW)).await.unwrap_err(), JwtFault::Signature);
    let encode = |json: &Value| base64_simd::URL_SAFE_NO_PAD.encode_to_string(json.to_string());
    for name in ["none", "None", "HS256"] {
        let unsigned = format!("{}.{}.", encode(&json!({"alg": name, "kid": "k1"})), encode(&claims(json!({}))));
        assert!(verifier.check(&unsigned, at(NOW)).await.is_err(), "{name}");
    }
    let mixed = settings(&json!({"jwks_url": "https://login.example/keys"}), &json!(["ES256", "HS256"]));
    assert_eq!(mixed.faults().len(), 1, "settings that would allow it are refused");
}

#[tokio::test(start_paused = true)]
async fn keys_rotate_and_the_old_ones_are_believed_no_more() {
    let login = Login::default();
    let (old, new) = (Issuer::new("k1", Algorithm::ES256), Issuer::new("k2", Algorithm::ES256));
    login.show(&[&old]);
    let verifier = by_set(&login).await.unwrap();
    let token = old.token(json!({"exp": NOW + 9000}));
    assert!(verifier.check(&token, at(NOW)).await.is_ok());
    login.show(&[&new]);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(verifier.check(&new.token(json!({})), at(NOW)).await.is_ok());
    assert_eq!(verifier.check(&token, at(NOW)).await.unwrap_err(), JwtFault::UnknownKey, "also where it was cached");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_key_names_asks_the_issuer_once_in_ten_seconds() {
    let (login, issuer) = (Login::default(), Issuer::new("k1", Algorithm::ES256));
    login.show(&[&issuer]);
    let verifier = by_set(&login).await.unwrap();
    tokio::time::advance(Duration::from_secs(11)).await;
    let stranger = Issuer::new("k9", Algorithm::ES256).token(json!({}));
    let all = (0..200).map(|_| verifier.check(&stranger, at(NOW)));
    let answers = futures_util::future::join_all(all).await;
    assert!(answers.into_iter().all(|answer| answer == Err(JwtFault::UnknownKey)));
    assert_eq!(login.asked(), 2, "once at the start, once for all of them");
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!(verifier.check(&stranger, at(NOW)).await.is_err());
    assert_eq!(login.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_fetch_under_way_is_let_in_by_it() {
    let login = Login::default();
    let (old, new) = (Issuer::new("k1", Algorithm::ES256), Issuer::new("k2", Algorithm::ES256));
    login.show(&[&old]);
    let verifier = by_set(&login).await.unwrap();
    login.show(&[&old, &new]);
    tokio::time::advance(Duration::from_secs(11)).await;
    let token = new.token(json!({}));
    let answers = futures_util::future::join_all((0..20).map(|_| verifier.check(&token, at(NOW)))).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(login.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_keeps_old_keys_and_stops_a_start() {
    let (login, issuer) = (Login::default(), Issuer::new("k1", Algorithm::ES256));
    assert!(matches!(by_set(&login).await, Err(KeysError::Fetch { .. })));
    login.show(&[&issuer]);
    let verifier = by_set(&login).await.unwrap();
    *login.shown.lock().unwrap() = None;
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(verifier.check(&issuer.token(json!({})), at(NOW)).await.is_ok());
    assert_eq!(login.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_still_ends() {
    let verifier = by_secret().await;
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(json!({})), &key).unwrap();
    assert!(verifier.check(&token, at(NOW)).await.is_ok() && verifier.check(&token, at(NOW + 64)).await.is_ok());
    assert_eq!(verifier.check(&token, at(NOW + 65)).await.unwrap_err(), JwtFault::Time);
    let short = settings(&json!({"secret_env": "SECRET"}), &json!(["HS256"]));
    let opened = JwtVerifier::open(short, |_| Some("short".to_owned()), Arc::new(Login::default())).await;
    assert!(matches!(opened, Err(KeysError::Fault(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_changed_byte_of_a_token_is_believed(at_byte in 0_usize..400, bit in 0_u8..7) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let verifier = by_secret().await;
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(json!({})), &key).unwrap();
            let mut bytes = token.clone().into_bytes();
            let at_byte = at_byte % bytes.len();
            bytes[at_byte] ^= 1 << bit;
            let changed = String::from_utf8_lossy(&bytes).into_owned();
            // The last character of base64 holds bits that are nobody's; a strict reader refuses other values of them.
            assert!(verifier.check(&changed, at(NOW)).await.is_err(), "{changed}");
        });
    }
}
