//! Asks a provider whether a person has solved its widget.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::human_settings::{HumanSecret, HumanSettings};
use super::inquire::Inquire;
use crate::guard::limit::{Lasts, site};
use crate::wire::{Problem, ToProblem};

/// Longest token of a widget: Turnstile's are 2048 at most, hCaptcha's somewhat longer.
const TOKEN_BYTES: usize = 8 * 1024;
/// Questions that may be open at once.
const AT_ONCE: usize = 32;
/// Those of one site (an address of IPv4, a /48 of IPv6), so that nobody keeps the others out with made-up tokens.
const AT_ONCE_FROM_A_SITE: u32 = 4;

/// Why nobody can be checked. It never shows the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HumanSecretFault {
    /// The variable is not set.
    #[error("the variable {name} is not set (guard.human.secret)")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read {} (guard.human.secret)", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// There is nothing there.
    #[error("the widget's secret is empty (guard.human.secret)")]
    Empty,
}

/// Why somebody has not passed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HumanFault {
    /// The provider does not believe the token: it was made up, used before, or is older than five minutes.
    #[error("the provider refuses the token of the widget: {codes}")]
    Refused {
        /// The provider's words.
        codes: String,
    },
    /// The widget stood in another page, or was for something else.
    #[error("the widget was solved for another page or action")]
    Foreign,
    /// The provider does not answer.
    #[error("the provider does not answer (guard.human)")]
    Silent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The provider answers something that is neither yes nor no.
    #[error("the provider answers {0}, or nothing that can be read (guard.human)")]
    Odd(StatusCode),
    /// The provider does not believe the gate's secret.
    #[error("the provider does not take the gate's secret: {codes} (guard.human.secret)")]
    Secret {
        /// The provider's words.
        codes: String,
    },
    /// Too many are being checked, or too many of one site.
    #[error("{AT_ONCE} checks are under way, or {AT_ONCE_FROM_A_SITE} of one site, the most that may be")]
    Busy,
}

impl ToProblem for HumanFault {
    fn to_problem(&self) -> Problem {
        match self {
            Self::Refused { .. } | Self::Foreign => {
                let sentence = "The human check was not passed, solve it again";
                Problem::new(StatusCode::FORBIDDEN, sentence).with_error_type("human_check_failed")
            }
            Self::Silent(_) | Self::Odd(_) | Self::Secret { .. } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The human check cannot be verified now, try again")
            }
            Self::Busy => Problem::rate_limited("too many checks are under way, try again", Duration::from_secs(1)),
        }
    }
}

/// Asks a provider. Clones share the bound on questions at the same time.
///
/// That a token is used only once, and within five minutes, is the provider's to watch: both do.
#[derive(Clone)]
pub struct HumanCheck(Arc<Inner>);

struct Inner {
    settings: HumanSettings,
    secret: SecretString,
    inquire: Arc<dyn Inquire>,
    questions: Semaphore,
    sites: Lasts,
}

impl std::fmt::Debug for HumanCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HumanCheck").field("provider", &self.0.settings.provider).finish_non_exhaustive()
    }
}

/// What both providers answer.
#[derive(Deserialize)]
struct Verdict {
    success: bool,
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default, rename = "error-codes")]
    codes: Vec<String>,
}

impl HumanCheck {
    /// Reads the secret. `look_up` gives the value of an environment variable.
    ///
    /// # Errors
    /// [`HumanSecretFault`] if there is no secret: nobody could be checked.
    pub fn open(
        settings: HumanSettings,
        look_up: impl Fn(&str) -> Option<String>,
        inquire: Arc<dyn Inquire>,
    ) -> Result<Self, HumanSecretFault> {
        let secret = match &settings.secret {
            HumanSecret::Env(name) => look_up(name).ok_or_else(|| HumanSecretFault::Unset { name: name.clone() })?,
            HumanSecret::File(path) => std::fs::read_to_string(path)
                .map_err(|cause| HumanSecretFault::Unreadable { path: path.clone(), cause })?,
        };
        let secret = secret.trim().to_owned();
        if secret.is_empty() {
            return Err(HumanSecretFault::Empty);
        }
        let secret = SecretString::from(secret);
        Ok(Self(Arc::new(Inner {
            settings,
            secret,
            inquire,
            questions: Semaphore::new(AT_ONCE),
            sites: Lasts::default(),
        })))
    }

    /// Whether the widget's token is of a person, who called from `address`.
    ///
    /// # Errors
    /// [`HumanFault`] unless the provider says so.
    pub async fn verify(&self, token: &str, address: Option<IpAddr>) -> Result<(), HumanFault> {
        let inner = &*self.0;
        if token.is_empty() || token.len() > TOKEN_BYTES {
            return Err(HumanFault::Refused { codes: "its length is no token's".to_owned() });
        }
        let site = address.map(|address| inner.sites.take(site(address), AT_ONCE_FROM_A_SITE).ok_or(HumanFault::Busy));
        let _of_its_site = site.transpose()?;
        let _question = inner.questions.try_acquire().map_err(|_| HumanFault::Busy)?;
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut form = format!("secret={}&response={}", encode(inner.secret.expose_secret()), encode(token));
        if let Some(address) = address {
            form.push_str(&format!("&remoteip={}", encode(&address.to_string())));
        }
        let request = Request::post(inner.settings.url())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(Bytes::from(form))
            .map_err(|error| HumanFault::Silent(error.into()))?;
        let limit = Duration::from_millis(inner.settings.timeout_ms.get());
        let answer = timeout(limit, inner.inquire.inquire(request)).await;
        let answer = answer.map_err(|late| HumanFault::Silent(late.into()))?.map_err(HumanFault::Silent)?;
        // Turnstile says 400 beside its words for some of them.
        let verdict: Verdict = serde_json::from_slice(answer.body()).map_err(|_| HumanFault::Odd(answer.status()))?;
        inner.judge(verdict, answer.status())
    }
}

impl Inner {
    fn judge(&self, verdict: Verdict, status: StatusCode) -> Result<(), HumanFault> {
        let Verdict { success, hostname, action, codes } = verdict;
        if !success {
            let words: Vec<&str> = codes.iter().take(8).map(|code| code.get(..64).unwrap_or(code)).collect();
            let is_ours = codes.iter().any(|code| code.contains("input-secret") || code == "sitekey-secret-mismatch");
            let codes = words.join(", ");
            return Err(if is_ours { HumanFault::Secret { codes } } else { HumanFault::Refused { codes } });
        }
        if !status.is_success() {
            return Err(HumanFault::Odd(status));
        }
        let settings = &self.settings;
        let fits = |wanted: &str, found: &Option<String>| found.as_deref() == Some(wanted);
        let is_host = settings.hostnames.is_empty() || settings.hostnames.iter().any(|name| fits(name, &hostname));
        let is_action = settings.action.as_ref().is_none_or(|wanted| fits(wanted, &action));
        if is_host && is_action { Ok(()) } else { Err(HumanFault::Foreign) }
    }
}
