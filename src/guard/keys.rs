//! Access keys for the direct door: who may call fal-shaped paths without going through a page.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use pin_project_lite::pin_project;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tower_layer::Layer;
use tower_service::Service;

use crate::telemetry::CallerNote;
use crate::wire::{Body, Problem, TargetUrl, ToProblem};

/// Shorter keys can be guessed.
const LEAST_KEY_BYTES: usize = 16;

/// Where the access keys of the direct door come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct KeySettings {
    /// Environment variable that holds access keys, one a line: `<key>`, or `<name> <key>` to tell callers apart in the
    /// log. A key that fal's clients can send has the form `<id>:<secret>`.
    pub env: Option<String>,
    /// File that holds access keys, one a line, in the same form. Lines that start with `#` are skipped.
    pub file: Option<std::path::PathBuf>,
}

impl KeySettings {
    /// Whether the direct door asks for a key at all.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.env.is_none() && self.file.is_none()
    }
}

/// Who called, as the key says. Added by [`AccessKeysLayer`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The name that stands beside the key, `key-1` for the first without one.
    pub name: Arc<str>,
}

/// Why a list of keys cannot be used. It never shows a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFault {
    /// There is no key in the list, so nobody could call.
    #[error("there is no access key")]
    None,
    /// A line is not `<key>` or `<name> <key>`.
    #[error("line {line} is not `<key>` or `<name> <key>`")]
    Line {
        /// The line, from 1.
        line: usize,
    },
    /// A key is too short.
    #[error("the key in line {line} has fewer than {LEAST_KEY_BYTES} characters")]
    Short {
        /// The line, from 1.
        line: usize,
    },
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRefusal {
    /// No key was sent.
    #[error("no access key was sent")]
    Missing,
    /// The header is neither `Key <id>:<secret>` nor `Bearer <key>`, or there are two.
    #[error("authorization header is malformed")]
    Malformed,
    /// The key is none of ours.
    #[error("access key is unknown")]
    Unknown,
}

impl ToProblem for KeyRefusal {
    fn to_problem(&self) -> Problem {
        let sentence = match self {
            Self::Missing => "Cannot access application. Authentication is required to access this application.",
            Self::Malformed => "Invalid Key Authorization header format. Expected '<key_id>:<key_secret>'.",
            Self::Unknown => "No user found for Key ID and Secret",
        };
        unauthorized(sentence.to_owned())
    }
}

fn unauthorized(sentence: String) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, sentence).with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Key"))
}

/// The keys that open the direct door, kept as SHA-256. Clones share them.
#[derive(Clone)]
pub struct AccessKeys(Arc<[(Caller, [u8; 32])]>);

impl std::fmt::Debug for AccessKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AccessKeys").field("keys", &self.0.len()).finish_non_exhaustive()
    }
}

impl AccessKeys {
    /// Reads keys from texts, one key a line.
    ///
    /// # Errors
    /// [`KeyFault`] for the first line that cannot be used, and for no key at all.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeyFault> {
        let mut keys = Vec::new();
        for text in texts {
            for (at, line) in text.lines().enumerate() {
                let line_number = at + 1;
                let mut words = line.split_whitespace();
                let (first, second, third) = (words.next(), words.next(), words.next());
                let Some(first) = first.filter(|word| !word.starts_with('#')) else { continue };
                let (name, key) = match (second, third) {
                    (None, _) => (format!("key-{}", keys.len() + 1), first),
                    (Some(key), None) => (first.to_owned(), key),
                    (Some(_), Some(_)) => return Err(KeyFault::Line { line: line_number }),
                };
                if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(KeyFault::Line { line: line_number });
                }
                if key.len() < LEAST_KEY_BYTES {
                    return Err(KeyFault::Short { line: line_number });
                }
                keys.push((Caller { name: name.into() }, digest(key.as_bytes())));
            }
        }
        if keys.is_empty() { Err(KeyFault::None) } else { Ok(Self(keys.into())) }
    }

    /// Finds the caller whose key the header holds. Takes the same time whichever key it is, and if it is none.
    ///
    /// # Errors
    /// [`KeyRefusal`] if it holds none.
    pub fn check(&self, authorization: Option<&HeaderValue>) -> Result<&Caller, KeyRefusal> {
        let value = authorization.ok_or(KeyRefusal::Missing)?.as_bytes();
        let space = value.iter().position(|byte| *byte == b' ').ok_or(KeyRefusal::Malformed)?;
        let (scheme, key) = (&value[..space], value[space + 1..].trim_ascii());
        let is_key = scheme.eq_ignore_ascii_case(b"key");
        let is_fit = if is_key { key.contains(&b':') } else { scheme.eq_ignore_ascii_case(b"bearer") };
        if !is_fit || key.is_empty() {
            return Err(KeyRefusal::Malformed);
        }
        let sent = digest(key);
        let mut found = None;
        for (caller, known) in self.0.iter() {
            let same: Choice = known.ct_eq(&sent);
            if bool::from(same) {
                found = Some(caller);
            }
        }
        found.ok_or(KeyRefusal::Unknown)
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Lets only those through who send an access key.
///
/// Needs nothing (names the app in its refusal if there is a [`TargetUrl`]); adds [`Caller`]. `OPTIONS` passes without.
///
/// ```
/// use falgate::guard::{AccessKeys, AccessKeysLayer};
/// use falgate::wire::Body;
/// use tower::{ServiceBuilder, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let keys = AccessKeys::read(["drawing-app 0123:456789abcdef0123"]).unwrap();
/// let service = ServiceBuilder::new().layer(AccessKeysLayer::new(keys)).service(service_fn(
///     |_: http::Request<()>| async { Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty())) },
/// ));
/// let answer = service.oneshot(http::Request::new(())).await.unwrap();
/// assert_eq!(answer.status(), 401);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct AccessKeysLayer(Option<AccessKeys>);

impl AccessKeysLayer {
    /// Asks for one of these keys.
    #[must_use]
    pub const fn new(keys: AccessKeys) -> Self {
        Self(Some(keys))
    }

    /// Asks nobody for anything: for a gate that is reachable by friends only.
    #[must_use]
    pub const fn open() -> Self {
        Self(None)
    }
}

impl<S> Layer<S> for AccessKeysLayer {
    type Service = AskForKey<S>;

    fn layer(&self, inner: S) -> AskForKey<S> {
        AskForKey { inner, keys: self.0.clone() }
    }
}

/// The service of [`AccessKeysLayer`].
#[derive(Debug, Clone)]
pub struct AskForKey<S> {
    inner: S,
    keys: Option<AccessKeys>,
}

impl<S> AskForKey<S> {
    fn caller<B>(&self, request: &Request<B>) -> Result<Option<Caller>, Problem> {
        let Some(keys) = self.keys.as_ref().filter(|_| request.method() != Method::OPTIONS) else { return Ok(None) };
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let (first, second) = (values.next(), values.next());
        let checked = if second.is_some() { Err(KeyRefusal::Malformed) } else { keys.check(first) };
        checked.map(|caller| Some(caller.clone())).map_err(|refusal| {
            let app = request.extensions().get::<TargetUrl>().and_then(|target| target.call().endpoint.as_ref());
            match (refusal, app) {
                (KeyRefusal::Missing, Some(app)) => unauthorized(format!(
                    "Cannot access application \"{app}\". Authentication is required to access this application."
                )),
                (refusal, _) => refusal.to_problem(),
            }
        })
    }
}

impl<S, B> Service<Request<B>> for AskForKey<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<Noted<S::Future>, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.caller(&request) {
            Ok(caller) => {
                let note = caller.as_ref().map(|caller| CallerNote(Arc::clone(&caller.name)));
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                Either::Left(Noted { inner: self.inner.call(request), note })
            }
            Err(problem) => Either::Right(ready(Ok(problem.into()))),
        }
    }
}

pin_project! {
    /// The answer, with the caller's name for the request log.
    pub struct Noted<F> {
        #[pin]
        inner: F,
        note: Option<CallerNote>,
    }
}

impl<F, E> Future for Noted<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = std::task::ready!(this.inner.poll(cx))?;
        if let Some(note) = this.note.take() {
            answer.extensions_mut().insert(note);
        }
        Poll::Ready(Ok(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> AccessKeys {
        AccessKeys::read([
            "# friends\nann 11111111:secret-of-ann\n\n22222222:secret-of-nobody\n",
            "bob tokentokentoken1",
        ])
        .unwrap()
    }

    fn check(header: &str) -> Result<String, KeyRefusal> {
        keys().check(Some(&HeaderValue::from_str(header).unwrap())).map(|caller| caller.name.to_string())
    }

    #[test]
    fn a_known_key_names_its_caller() {
        assert_eq!(check("Key 11111111:secret-of-ann").unwrap(), "ann");
        assert_eq!(check("key  22222222:secret-of-nobody ").unwrap(), "key-2");
        assert_eq!(check("Bearer tokentokentoken1").unwrap(), "bob");
    }

    #[test]
    fn everything_else_is_refused_in_fals_words() {
        assert_eq!(check("Key 11111111:secret-of-bob"), Err(KeyRefusal::Unknown));
        assert_eq!(check("Key tokentokentoken1"), Err(KeyRefusal::Malformed));
        assert_eq!(check("Basic 11111111:secret-of-ann"), Err(KeyRefusal::Malformed));
        assert_eq!(check("Bearer "), Err(KeyRefusal::Malformed));
        assert_eq!(check("11111111:secret-of-ann"), Err(KeyRefusal::Malformed));
        assert_eq!(keys().check(None), Err(KeyRefusal::Missing));
        let problem = KeyRefusal::Unknown.to_problem();
        assert_eq!(
            (problem.status(), &*problem.message()),
            (StatusCode::UNAUTHORIZED, "No user found for Key ID and Secret")
        );
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused_without_showing_it() {
        assert_eq!(AccessKeys::read(["# only a comment\n"]).unwrap_err(), KeyFault::None);
        assert_eq!(AccessKeys::read(["\na short"]).unwrap_err(), KeyFault::Short { line: 2 });
        assert_eq!(AccessKeys::read(["a b c"]).unwrap_err(), KeyFault::Line { line: 1 });
        assert!(!format!("{:?}", keys()).contains("secret"));
    }
}
