//! Answers calls for tokens.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::json;
use tower_service::Service;

use super::claims::seconds;
use super::mint::{Grant, Minted};
use super::tokens::Tokens;
use crate::guard::{Caller, PageOrigin, Tier};
use crate::telemetry::CallNote;
use crate::wire::{Body, Problem, ToProblem, TokenWish, WishedApp, collect};

/// Largest body of a call for a token.
const BODY_BYTES: u64 = 64 * 1024;

/// Mints a token for whoever calls, for the apps that the body names.
///
/// It asks nobody whether the caller may have them: whatever stands before it has (in the gate, the key proxy). Reads
/// [`Caller`], [`Tier`] and [`PageOrigin`] where they are known. At `…/tokens/realtime` it answers 201 with an object, else 200 with the
/// token as a JSON string, as each is read by fal's clients (protocol spec 9.1 and 9.2).
#[derive(Debug, Clone)]
pub struct TokenService {
    tokens: Tokens,
}

impl TokenService {
    /// Mints with these keys.
    #[must_use]
    pub const fn new(tokens: Tokens) -> Self {
        Self { tokens }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let form = Form::of(parts.uri.path());
        let body = match collect(body, BODY_BYTES).await {
            Ok(body) => body,
            Err(error) => return error.to_problem().into(),
        };
        let wish = match TokenWish::read(&body) {
            Ok(wish) => wish,
            Err(faults) => return Problem::invalid(faults).into(),
        };
        let bound = parts.extensions.get::<PageOrigin>().filter(|_| self.tokens.settings().bind_origin);
        let grant = Grant {
            caller: parts.extensions.get::<Caller>().map(|caller| Arc::clone(&caller.name)),
            tier: parts.extensions.get::<Tier>().map(|tier| Arc::clone(&tier.0)),
            apps: apps(&wish),
            life: wish.life_s().map(|life| Duration::from_secs(life.into())),
            origin: bound.map(|page| page.0.clone()),
            now: SystemTime::now(),
        };
        match self.tokens.mint(&grant) {
            Ok(minted) => form.write(&minted),
            Err(fault) => {
                tracing::warn!(error = %fault, "no token was minted");
                fault.to_problem().into()
            }
        }
    }
}

/// Each alias once.
fn apps(wish: &TokenWish) -> Vec<String> {
    let mut apps: Vec<String> = Vec::new();
    for alias in wish.apps().iter().map(WishedApp::alias) {
        if !apps.iter().any(|app| app == alias) {
            apps.push(alias.to_owned());
        }
    }
    apps
}

/// How a token is written.
enum Form {
    Text,
    Object,
}

impl Form {
    fn of(path: &str) -> Self {
        if path.trim_end_matches('/').ends_with("/realtime") { Self::Object } else { Self::Text }
    }

    fn write(&self, minted: &Minted) -> Response<Body> {
        let token = minted.token.expose_secret();
        let (status, body) = match self {
            Self::Text => (StatusCode::OK, json!(token)),
            Self::Object => (StatusCode::CREATED, json!({ "token": token, "expiresAt": rfc3339(minted.expires) })),
        };
        let mut answer = Response::new(Body::from(body.to_string()));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.extensions_mut().insert(CallNote {
            endpoint: None,
            kind: "token",
            route: "gate",
            waited: Duration::ZERO,
        });
        answer
    }
}

/// A time as JavaScript's `Date` reads it: `2026-11-23T03:00:00Z`.
fn rfc3339(time: SystemTime) -> String {
    let seconds = seconds(time);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, in eras of 400 years that begin in March
    // (H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl Service<Request<Body>> for TokenService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_402_800, "2026-11-23T03:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), date);
        }
    }
}
