//! Asks the application whose session it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, COOKIE};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::credentials::Credentials;
use super::inquire::Inquire;
use super::session_settings::SessionSettings;
use crate::wire::{Problem, ToProblem};

/// Longest cookies that are shown to the application.
const COOKIE_BYTES: usize = 8 * 1024;
/// Longest name of a caller or tier.
const NAME_BYTES: usize = 256;

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionHolder {
    /// The caller's name.
    pub caller: Arc<str>,
    /// The caller's tier, where the application names one.
    pub tier: Option<Arc<str>>,
}

/// Why a session names nobody. It never shows a cookie.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionFault {
    /// The application does not know it, or no longer.
    #[error("the application refuses the session with {0}")]
    Refused(StatusCode),
    /// It is longer than any session.
    #[error("the cookies of the session are longer than {COOKIE_BYTES} bytes")]
    Long,
    /// The application does not answer.
    #[error("the application does not say whose session it is (guard.session.url)")]
    Silent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The application does not answer in time, or has too many questions open.
    #[error("the application did not say in time whose session it is (guard.session.timeout_ms)")]
    Late,
    /// The application answers something that is neither yes nor no.
    #[error("the application answers {0} when asked whose session it is (guard.session.url)")]
    Odd(StatusCode),
    /// The application says yes, but not who it is.
    #[error("the application names no caller in {header} (guard.session.caller_header)")]
    Nameless {
        /// The header.
        header: String,
    },
}

impl ToProblem for SessionFault {
    fn to_problem(&self) -> Problem {
        let refused = Problem::new(StatusCode::UNAUTHORIZED, "The session is not valid, log in again");
        let down = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "It cannot be checked now who is calling, try again");
        match self {
            Self::Refused(_) | Self::Long => refused.with_error_type("session_refused"),
            Self::Silent(_) | Self::Late | Self::Odd(_) | Self::Nameless { .. } => down,
        }
    }
}

/// Asks the application whose session a cookie is, and remembers the answer for a moment. Clones share what is remembered.
#[derive(Clone)]
pub struct Sessions(Arc<Inner>);

struct Inner {
    settings: SessionSettings,
    inquire: Arc<dyn Inquire>,
    /// Whose the session of this hash is, and until when that may be believed.
    known: moka::sync::Cache<[u8; 32], (Instant, SessionHolder)>,
    questions: Semaphore,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("url", &self.0.settings.url).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Asks through `inquire`.
    #[must_use]
    pub fn new(settings: SessionSettings, inquire: Arc<dyn Inquire>) -> Self {
        let known = moka::sync::Cache::new(u64::from(settings.cache_entries.get()));
        let questions = Semaphore::new(settings.at_once.get() as usize);
        Self(Arc::new(Inner { settings, inquire, known, questions }))
    }

    /// The cookies of a session, as they are shown to the application: `None` where there are none.
    pub(super) fn cookies(&self, credentials: &Credentials) -> Option<String> {
        let mut found = Vec::new();
        for name in &self.0.settings.cookies {
            found.extend(credentials.cookies(name).map(|value| format!("{name}={value}")));
        }
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Whose session `cookies` is.
    ///
    /// # Errors
    /// [`SessionFault`] unless the application names a caller, in time.
    pub async fn check(&self, cookies: &str) -> Result<SessionHolder, SessionFault> {
        let inner = &*self.0;
        let header = HeaderValue::from_str(cookies).map_err(|_| SessionFault::Long);
        let mut header = header
            .and_then(|header| if cookies.len() <= COOKIE_BYTES { Ok(header) } else { Err(SessionFault::Long) })?;
        header.set_sensitive(true);
        let digest: [u8; 32] = Sha256::digest(cookies).into();
        if let Some((until, holder)) = inner.known.get(&digest)
            && Instant::now() < until
        {
            return Ok(holder);
        }
        let limit = Duration::from_millis(inner.settings.timeout_ms.get());
        let asked = timeout(limit, inner.ask(header)).await.map_err(|_| SessionFault::Late);
        let holder = asked.and_then(|answer| answer).inspect_err(|_| inner.known.invalidate(&digest))?;
        let keep = Duration::from_secs(inner.settings.cache_s.into());
        if !keep.is_zero() {
            inner.known.insert(digest, (Instant::now() + keep, holder.clone()));
        }
        Ok(holder)
    }
}

impl Inner {
    async fn ask(&self, cookies: HeaderValue) -> Result<SessionHolder, SessionFault> {
        // The semaphore is never closed.
        let _question = self.questions.acquire().await.map_err(|error| SessionFault::Silent(error.into()))?;
        let request = Request::get(self.settings.url.as_str())
            .header(COOKIE, cookies)
            .header(ACCEPT, HeaderValue::from_static("*/*"))
            .body(Bytes::new())
            .map_err(|error| SessionFault::Silent(error.into()))?;
        let answer = self.inquire.inquire(request).await.map_err(SessionFault::Silent)?;
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(SessionFault::Refused(answer.status())),
            status if status.is_success() => self.read(answer.headers()),
            other => Err(SessionFault::Odd(other)),
        }
    }

    fn read(&self, headers: &HeaderMap) -> Result<SessionHolder, SessionFault> {
        let named = |header: &str| {
            let mut values = headers.get_all(header).iter();
            let (Some(value), None) = (values.next(), values.next()) else { return None };
            let name = value.to_str().ok().map(str::trim)?;
            (!name.is_empty() && name.len() <= NAME_BYTES).then(|| Arc::<str>::from(name))
        };
        let header = &self.settings.caller_header;
        let caller = named(header).ok_or_else(|| SessionFault::Nameless { header: header.clone() })?;
        Ok(SessionHolder { caller, tier: self.settings.tier_header.as_deref().and_then(named) })
    }
}
