//! fal's own tokens, minted with the key for one app each. They stay in this room.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_service::Service;

use super::error::OpenError;
use super::metrics::RelayMetrics;
use crate::upstream::echo::repeats;
use crate::wire::{AllowedTargets, Body, TargetSettings, TargetUrl, collect};

/// Apps for which a token is kept.
const APPS: usize = 256;
/// Largest answer that is read for a token.
const ANSWER_BYTES: u64 = 16 * 1024;
const TOKEN_BYTES: usize = 4096;

/// One token. It cannot be printed.
#[derive(Debug)]
pub(super) struct FalToken(SecretString);

impl FalToken {
    fn read(answer: &[u8]) -> Option<Self> {
        let text = match serde_json::from_slice(answer).ok()? {
            Value::String(token) => token,
            // The forms of older proxies and of the newer route (protocol spec 9.1, 9.2).
            Value::Object(mut fields) => match (fields.remove("token"), fields.remove("detail")) {
                (Some(Value::String(token)), _) | (None, Some(Value::String(token))) => token,
                _ => return None,
            },
            _ => return None,
        };
        let fits = !text.is_empty() && text.len() <= TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(SecretString::from(text)))
    }

    /// Writes it where fal looks for it: into the query of a handshake.
    pub(super) fn write_into(&self, query: &mut String) {
        query.push_str("fal_jwt_token=");
        query.push_str(&self.encoded());
    }

    fn encoded(&self) -> String {
        percent_encoding::utf8_percent_encode(self.0.expose_secret(), percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    /// Whether a text from outside repeats it, as it is or as it stands in a URL, or a part of it.
    pub(super) fn is_in(&self, text: &str) -> bool {
        repeats(text, self.0.expose_secret()) || repeats(text, &self.encoded())
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Minted>>>;

#[derive(Debug)]
struct Minted {
    token: Arc<FalToken>,
    fresh_until: Instant,
}

/// The tokens at hand, one for each app. Whoever needs one that is being minted waits for it instead of minting another.
#[derive(Debug)]
pub(super) struct FalTokens {
    life: NonZeroU32,
    target: TargetUrl,
    slots: Mutex<HashMap<Arc<str>, Slot>>,
    metrics: RelayMetrics,
}

impl FalTokens {
    pub(super) fn new(life: NonZeroU32, metrics: RelayMetrics) -> Self {
        let allowed = AllowedTargets::new(TargetSettings { tokens: true, ..TargetSettings::default() });
        let route = HeaderValue::from_static("https://rest.fal.ai/tokens/");
        let target = allowed.admit(Some(&route), &Method::POST).expect("the route of tokens is one of fal's");
        Self { life, target, slots: Mutex::default(), metrics }
    }

    /// A token for the app of this alias: the one at hand until four fifths of its life are over, else a new one.
    pub(super) async fn get<S>(&self, alias: &str, client: &S) -> Result<Arc<FalToken>, OpenError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let slot = self.slot(alias);
        let mut minted = slot.lock().await;
        if let Some(minted) = minted.as_ref().filter(|minted| Instant::now() < minted.fresh_until) {
            return Ok(Arc::clone(&minted.token));
        }
        let asked_at = Instant::now();
        let token = Arc::new(self.mint(alias, client.clone()).await?);
        let fresh = Duration::from_secs(self.life.get().into()).mul_f64(0.8);
        *minted = Some(Minted { token: Arc::clone(&token), fresh_until: asked_at + fresh });
        Ok(token)
    }

    /// Throws a token away that fal would not take, unless another is at hand already.
    pub(super) async fn forget(&self, alias: &str, refused: &Arc<FalToken>) {
        let slot = self.slot(alias);
        let mut minted = slot.lock().await;
        minted.take_if(|minted| Arc::ptr_eq(&minted.token, refused));
    }

    fn slot(&self, alias: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(alias) {
            return Arc::clone(slot);
        }
        if slots.len() >= APPS {
            // Those that are in use stay; a token that is thrown away is minted again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(alias.into()).or_default())
    }

    async fn mint<S>(&self, alias: &str, mut client: S) -> Result<FalToken, OpenError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let wish = json!({"allowed_apps": [alias], "token_expiration": self.life.get()}).to_string();
        let mut request = Request::new(Body::from(wish));
        *request.method_mut() = Method::POST;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json.clone());
        request.headers_mut().insert(ACCEPT, json);
        request.extensions_mut().insert(self.target.clone());
        let Ok(()) = poll_fn(|cx| client.poll_ready(cx)).await;
        let Ok(answer) = client.call(request).await;
        if !answer.status().is_success() {
            return Err(OpenError::Token { status: answer.status() });
        }
        let body = collect(answer.into_body(), ANSWER_BYTES).await.map_err(|_| OpenError::NoToken)?;
        self.metrics.minted();
        FalToken::read(&body).ok_or(OpenError::NoToken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower::service_fn;

    use super::*;

    #[test]
    fn every_form_of_a_token_is_read_and_nothing_else() {
        for form in [r#""abc.def""#, r#"{"token":"abc.def","expiresAt":"x"}"#, r#"{"detail":"abc.def"}"#] {
            assert_eq!(FalToken::read(form.as_bytes()).unwrap().0.expose_secret(), "abc.def");
        }
        for form in ["", "abc.def", r#""""#, r#""a b""#, "[]", "1", "{}", r#"{"token":1,"detail":"abc"}"#] {
            assert!(FalToken::read(form.as_bytes()).is_none(), "{form}");
        }
        assert!(FalToken::read(format!("{:?}", "x".repeat(TOKEN_BYTES + 1)).as_bytes()).is_none());
    }

    #[test]
    fn a_token_cannot_leave_its_place_in_a_query() {
        let mut query = String::new();
        FalToken::read(br#""a&b=c#d%""#).unwrap().write_into(&mut query);
        assert_eq!(query, "fal_jwt_token=a%26b%3Dc%23d%25");
        assert!(!format!("{:?}", FalToken::read(br#""canary""#)).contains("canary"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_minted_once_for_all_who_wait_and_again_when_it_is_old_or_refused() {
        let minted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&minted);
        let fal = service_fn(move |_: Request<Body>| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Response::new(Body::from(format!("\"token-{number}\""))))
            }
        });
        let tokens = FalTokens::new(NonZeroU32::new(100).unwrap(), RelayMetrics::default());
        let (one, other) = tokio::join!(tokens.get("lcm", &fal), tokens.get("lcm", &fal));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(Arc::ptr_eq(&one, &other) && one.is_in("token-0"));
        tokio::time::advance(Duration::from_secs(79)).await;
        assert!(Arc::ptr_eq(&tokens.get("lcm", &fal).await.unwrap(), &one));
        assert!(tokens.get("flux", &fal).await.unwrap().is_in("token-1"), "an app has its own");
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = tokens.get("lcm", &fal).await.unwrap();
        assert!(second.is_in("token-2"));
        tokens.forget("lcm", &one).await;
        assert!(Arc::ptr_eq(&tokens.get("lcm", &fal).await.unwrap(), &second), "it was the old one that was refused");
        tokens.forget("lcm", &second).await;
        assert!(tokens.get("lcm", &fal).await.unwrap().is_in("token-3"));
    }
}
