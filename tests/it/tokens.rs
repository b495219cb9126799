//! Tokens for sockets, as a library: keys, their rotation, and everything that a forger may try.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use falgate::guard::{
    Grant, MintFault, Minted, TokenAlgorithm, TokenFault, TokenHolder, TokenKeySource, TokenSettings, TokenUse, Tokens,
    judge_token_keys, rotate_token_keys,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const SECRET: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

/// A gate's tokens, signed with these lines.
fn tokens(lines: &str, algorithm: TokenAlgorithm) -> Tokens {
    let settings =
        TokenSettings { keys: TokenKeySource::Env("KEYS".to_owned()), algorithm, ..TokenSettings::default() };
    Tokens::open(&settings, |_| Some(lines.to_owned())).unwrap()
}

fn hs256() -> Tokens {
    tokens(&format!("HS256 {SECRET}"), TokenAlgorithm::Hs256)
}

fn grant() -> Grant {
    Grant {
        caller: Some("ann".into()),
        tier: None,
        apps: vec!["lcm-sd15-i2i".to_owned()],
        life: Some(Duration::from_secs(120)),
        origin: None,
        now: at(0),
    }
}

fn mint(tokens: &Tokens) -> String {
    text(&tokens.mint(&grant()).unwrap())
}

fn text(minted: &Minted) -> String {
    minted.token.expose_secret().to_owned()
}

fn check(tokens: &Tokens, token: &str) -> Result<TokenHolder, TokenFault> {
    tokens.check(token, &TokenUse { alias: "lcm-sd15-i2i", origin: None, now: at(10) })
}

fn fault(tokens: &Tokens, token: &str) -> TokenFault {
    check(tokens, token).unwrap_err()
}

/// The claims in a token, unchecked.
fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

/// A token with this head and these claims, signed with a secret.
fn forge(header: &Header, claims: &Value, secret: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn base64(text: &str) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(text)
}

#[test]
fn a_token_says_who_for_which_apps_and_until_when() {
    for (tokens, algorithm) in
        [(hs256(), Algorithm::HS256), (tokens(&format!("EdDSA {SECRET}"), TokenAlgorithm::EdDsa), Algorithm::EdDSA)]
    {
        let minted = tokens.mint(&grant()).unwrap();
        assert_eq!(minted.expires, at(120));
        let token = text(&minted);
        assert!(
            token.len() <= 1024 && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        );
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.alg, header.kid.unwrap().len()), (algorithm, 16));
        let said = claims(&token);
        assert_eq!(said["sub"], "ann");
        assert_eq!(said["apps"], json!(["lcm-sd15-i2i"]));
        assert_eq!([&said["iss"], &said["aud"]], ["falgate", "falgate"]);
        assert_eq!([&said["iat"], &said["exp"]], [&json!(1_800_000_000_u64), &json!(1_800_000_120_u64)]);
        assert_eq!(said["jti"].as_str().unwrap().len(), 32);
        let holder = check(&tokens, &token).unwrap();
        assert_eq!(&*holder.caller.unwrap().name, "ann");
        assert_eq!(holder.expires, at(120));
    }
}

#[test]
fn a_token_for_many_apps_names_each_and_too_many_are_refused() {
    let tokens = hs256();
    let many = |count: usize| Grant { apps: (0..count).map(|at| format!("some-app-{at:02}")).collect(), ..grant() };
    let token = text(&tokens.mint(&many(10)).unwrap());
    let used = TokenUse { alias: "some-app-09", origin: None, now: at(0) };
    assert!(tokens.check(&token, &used).is_ok());
    assert!(matches!(tokens.mint(&many(50)), Err(MintFault::TooLong { apps: 50 })));
    assert!(matches!(tokens.mint(&many(0)), Err(MintFault::NoApp)));
}

#[test]
fn a_life_above_the_most_is_cut_and_one_below_the_least_is_raised() {
    let life = |wish: Option<u64>| {
        let minted = hs256().mint(&Grant { life: wish.map(Duration::from_secs), ..grant() }).unwrap();
        minted.expires.duration_since(at(0)).unwrap().as_secs()
    };
    assert_eq!([life(Some(86_400)), life(Some(1)), life(None)], [600, 10, 120]);
}

#[test]
fn an_expired_token_and_one_for_another_app_or_page_open_nothing() {
    let tokens = hs256();
    let token = mint(&tokens);
    let used = |alias, seconds| tokens.check(&token, &TokenUse { alias, origin: None, now: at(seconds) }).map(drop);
    assert_eq!(used("lcm-sd15-i2i", 124), Ok(()), "a few seconds are forgiven");
    assert_eq!(used("lcm-sd15-i2i", 125), Err(TokenFault::Expired));
    assert_eq!(used("flux", 0), Err(TokenFault::App));
    let bound = Grant { origin: Some("https://draw.example".to_owned()), ..grant() };
    let bound = text(&tokens.mint(&bound).unwrap());
    let from = |origin| tokens.check(&bound, &TokenUse { alias: "lcm-sd15-i2i", origin, now: at(0) }).map(drop);
    assert_eq!(from(Some("https://draw.example")), Ok(()));
    assert_eq!(from(Some("https://evil.example")), Err(TokenFault::Origin));
    assert_eq!(from(None), Err(TokenFault::Origin));
}

#[test]
fn a_token_without_a_signature_is_refused_however_it_says_none() {
    let tokens = hs256();
    let token = mint(&tokens);
    let payload = token.split('.').nth(1).unwrap();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64(&json!({ "alg": alg, "typ": "JWT", "kid": kid }).to_string());
        for forged in [format!("{header}.{payload}."), format!("{header}.{payload}"), format!("{header}.{payload}.AA")]
        {
            assert_eq!(fault(&tokens, &forged), TokenFault::Malformed, "{alg}");
        }
    }
    let (unsigned, _) = token.rsplit_once('.').unwrap();
    assert_eq!(fault(&tokens, &format!("{unsigned}.")), TokenFault::Signature);
}

#[test]
fn the_public_half_of_a_key_signs_nothing() {
    let tokens = tokens(&format!("EdDSA {SECRET}"), TokenAlgorithm::EdDsa);
    let token = mint(&tokens);
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid;
    // The public key of this seed, as whoever verifies elsewhere would have it.
    let seed = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(SECRET).unwrap();
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let private = EncodingKey::from_ed_der(&[&head[..], &seed].concat());
    let public = jsonwebtoken::jwk::Jwk::from_encoding_key(&private, Algorithm::EdDSA).unwrap();
    let public = jsonwebtoken::DecodingKey::from_jwk(&public).unwrap();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let header = Header { kid: kid.clone(), ..Header::new(algorithm) };
        let forged = forge(&header, &claims(&token), public.try_get_as_bytes().unwrap());
        assert_eq!(fault(&tokens, &forged), TokenFault::Signature, "{algorithm:?}");
    }
}

#[test]
fn a_key_checks_with_its_own_algorithm_only() {
    let tokens = hs256();
    let token = mint(&tokens);
    let secret = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(SECRET).unwrap();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid;
    let signed = |algorithm| forge(&Header { kid: kid.clone(), ..Header::new(algorithm) }, &claims(&token), &secret);
    assert!(check(&tokens, &signed(Algorithm::HS256)).is_ok(), "the forger here has the right key");
    assert_eq!(fault(&tokens, &signed(Algorithm::HS384)), TokenFault::Signature);
    assert_eq!(fault(&tokens, &signed(Algorithm::HS512)), TokenFault::Signature);
}

#[test]
fn a_changed_token_is_no_token() {
    let tokens = hs256();
    let token = mint(&tokens);
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        // The last letter of a part may hold bits that mean nothing: they must be zero, so that is no token either.
        assert!(check(&tokens, &changed).is_err(), "letter {at}");
    }
    let mut greedy = claims(&token);
    greedy["apps"] = json!(["lcm-sd15-i2i", "flux"]);
    let parts: Vec<&str> = token.split('.').collect();
    let greedy = format!("{}.{}.{}", parts[0], base64(&greedy.to_string()), parts[2]);
    assert_eq!(fault(&tokens, &greedy), TokenFault::Signature);
    for junk in ["", ".", "..", "a.b.c", "x", &format!("{token}.{token}"), &format!("{token} "), &"A".repeat(5000)] {
        assert_eq!(fault(&tokens, junk), TokenFault::Malformed);
    }
}

#[test]
fn a_right_signature_is_not_enough() {
    let tokens = hs256();
    let token = mint(&tokens);
    let secret = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(SECRET).unwrap();
    let header = Header { kid: jsonwebtoken::decode_header(&token).unwrap().kid, ..Header::new(Algorithm::HS256) };
    let with = |field: &str, value: Value| {
        let mut changed = claims(&token);
        changed[field] = value;
        forge(&header, &changed, &secret)
    };
    let without = |field: &str| {
        let mut changed = claims(&token);
        changed.as_object_mut().unwrap().remove(field);
        forge(&header, &changed, &secret)
    };
    assert_eq!(fault(&tokens, &with("iss", json!("another"))), TokenFault::Foreign);
    assert_eq!(fault(&tokens, &with("aud", json!("falgate-upload"))), TokenFault::Foreign);
    assert_eq!(fault(&tokens, &with("iat", json!(1_800_000_016_u64))), TokenFault::FromTheFuture);
    for field in ["iss", "aud", "apps", "iat", "exp", "jti"] {
        assert_eq!(fault(&tokens, &without(field)), TokenFault::Malformed, "{field}");
    }
    for (field, value) in [("exp", json!(-1)), ("exp", json!("never")), ("jti", json!("zz")), ("apps", json!("lcm"))] {
        assert_eq!(fault(&tokens, &with(field, value)), TokenFault::Malformed, "{field}");
    }
    let nameless = Header { kid: None, ..header.clone() };
    assert_eq!(fault(&tokens, &forge(&nameless, &claims(&token), &secret)), TokenFault::Malformed);
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..header };
    assert_eq!(fault(&tokens, &forge(&critical, &claims(&token), &secret)), TokenFault::Malformed);
}

#[test]
fn a_gate_with_another_key_or_another_name_does_not_believe_a_token() {
    let token = mint(&hs256());
    let stranger = tokens(&format!("HS256 {OTHER}"), TokenAlgorithm::Hs256);
    assert_eq!(fault(&stranger, &token), TokenFault::UnknownKey);
    let keys = TokenKeySource::Env("KEYS".to_owned());
    let renamed = TokenSettings { keys, issuer: "gate-2".to_owned(), ..TokenSettings::default() };
    let renamed = Tokens::open(&renamed, |_| Some(format!("HS256 {SECRET}"))).unwrap();
    assert_eq!(fault(&renamed, &token), TokenFault::Foreign);
}

#[test]
fn so_many_sockets_and_no_more_are_open_with_a_token() {
    let keys = TokenKeySource::Memory;
    let settings = TokenSettings { keys, sockets_per_token: NonZeroU32::new(2).unwrap(), ..TokenSettings::default() };
    let tokens = Tokens::open(&settings, |_| None).unwrap();
    let (one, other) = (mint(&tokens), mint(&tokens));
    let seats = [check(&tokens, &one).unwrap().sit().unwrap(), check(&tokens, &one).unwrap().sit().unwrap()];
    assert_eq!(check(&tokens, &one).unwrap().sit().unwrap_err(), TokenFault::Seats { limit: 2 });
    assert!(check(&tokens, &other).unwrap().sit().is_ok());
    drop(seats);
    assert!(check(&tokens, &one).unwrap().sit().is_ok());
}

/// Settings with a key file in a folder of its own.
fn in_file(folder: &Path) -> (TokenSettings, PathBuf) {
    let path = folder.join("deep/down/token-keys");
    (TokenSettings { keys: TokenKeySource::File(path.clone()), ..TokenSettings::default() }, path)
}

fn open(settings: &TokenSettings) -> Tokens {
    Tokens::open(settings, |_| None).unwrap()
}

#[test]
fn a_key_is_made_on_the_first_start_for_its_owner_only_and_kept() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = in_file(folder.path());
    judge_token_keys(&settings, |_| None).unwrap();
    assert!(!path.exists(), "a check makes nothing");
    let token = mint(&open(&settings));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays behind");
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(check(&open(&settings), &token).is_ok(), "a token survives a restart");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn gates_that_start_at_once_sign_with_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = in_file(folder.path());
    let start = Arc::new(std::sync::Barrier::new(8));
    let gates: Vec<_> = (0..8)
        .map(|_| {
            let (settings, start) = (settings.clone(), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                open(&settings)
            })
        })
        .collect();
    let gates: Vec<Tokens> = gates.into_iter().map(|gate| gate.join().unwrap()).collect();
    let token = mint(&gates[0]);
    assert!(gates.iter().all(|gate| check(gate, &token).is_ok()));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn keys_that_others_may_read_or_that_are_none_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = in_file(folder.path());
    drop(open(&settings));
    let said = || {
        let error = Tokens::open(&settings, |_| None).unwrap_err();
        assert_eq!(judge_token_keys(&settings, |_| None).unwrap_err().to_string(), error.to_string());
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
    assert!(said().contains("chmod 600"), "{}", said());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    drop(open(&settings));
    std::fs::write(&path, "HS256 canary").unwrap();
    assert!(said().contains("token-keys") && said().contains("line 1") && !said().contains("canary"), "{}", said());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(said().contains("token-keys"), "{}", said());
    let unset = TokenSettings { keys: TokenKeySource::Env("TOKEN_KEYS".to_owned()), ..TokenSettings::default() };
    assert!(Tokens::open(&unset, |_| None).unwrap_err().to_string().contains("TOKEN_KEYS"));
}

#[test]
fn after_a_rotation_the_old_key_is_believed_as_long_as_its_tokens_may_live() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = in_file(folder.path());
    let tokens = open(&settings);
    let old = text(&tokens.mint(&Grant { life: Some(Duration::from_secs(600)), ..grant() }).unwrap());
    rotate_token_keys(&settings, at(5)).unwrap();
    assert!(check(&tokens, &old).is_ok(), "nothing has changed for this gate yet");
    tokens.reload().unwrap();
    let new = mint(&tokens);
    let name = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    assert_ne!(name(&old), name(&new));
    let used = |token: &str, seconds| {
        tokens.check(token, &TokenUse { alias: "lcm-sd15-i2i", origin: None, now: at(seconds) }).map(drop)
    };
    assert_eq!([used(&old, 604), used(&new, 60)], [Ok(()), Ok(())]);
    assert_eq!(used(&old, 610), Err(TokenFault::UnknownKey));
    // A second rotation takes out what has ended.
    rotate_token_keys(&settings, at(1000)).unwrap();
    let lines = std::fs::read_to_string(&path).unwrap().lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(lines, 2);
    tokens.reload().unwrap();
    assert_eq!(used(&new, 60), Ok(()));
}

#[test]
fn a_rotation_can_change_the_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, _) = in_file(folder.path());
    let old = mint(&open(&settings));
    let changed = TokenSettings { algorithm: TokenAlgorithm::EdDsa, ..settings };
    let refused = Tokens::open(&changed, |_| None).unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("HS256") && cause.contains("guard.tokens.algorithm"), "{cause}");
    rotate_token_keys(&changed, at(0)).unwrap();
    let tokens = open(&changed);
    assert!(check(&tokens, &old).is_ok() && check(&tokens, &mint(&tokens)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_file_is_read_again_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = in_file(folder.path());
    let tokens = open(&settings);
    let token = mint(&tokens);
    let watching = tokio::spawn(tokens.clone().watch(Duration::from_secs(5)));
    std::fs::write(&path, "broken\n").unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(check(&tokens, &token).is_ok(), "a broken file changes nothing");
    std::fs::write(&path, format!("HS256 {SECRET}\n")).unwrap();
    let mut looks = 0;
    while check(&tokens, &token).is_ok() {
        looks += 1;
        assert!(looks < 1000, "the file was not read again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(fault(&tokens, &token), TokenFault::UnknownKey);
    watching.abort();
}

#[test]
fn neither_keys_nor_tokens_show_in_what_is_printed() {
    let tokens = hs256();
    let minted = tokens.mint(&grant()).unwrap();
    let token = text(&minted);
    let holder = check(&tokens, &token).unwrap();
    let printed = format!("{tokens:?} {minted:?} {holder:?} {:?} {:?}", holder.sit(), tokens.settings());
    assert!(!printed.contains(SECRET) && !printed.contains(token.rsplit('.').next().unwrap()), "{printed}");
}
