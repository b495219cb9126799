//! Errors as fal's clients read them.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

use super::{Body, CollectError, FieldError};

/// A refusal or failure, ready to be sent: status, text and headers.
///
/// The body is a JSON object with both `detail` and `message`: JavaScript clients show `message`, Python and Swift show
/// `detail` (protocol spec 2.9 and 10.1). A validation failure carries a list in `detail`, as pydantic writes it.
/// The text is for the caller: no host names, no paths, nothing that an upstream said.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: Detail,
    error_type: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    may_have_cost: bool,
}

/// In the extensions of an answer that is a failure here, and may be finished work at whoever was asked: what it was
/// expected to cost stays charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MayHaveCost;

#[derive(Debug, Clone)]
enum Detail {
    Text(Cow<'static, str>),
    Fields(Vec<FieldError>),
}

#[derive(Serialize)]
struct TextBody<'a> {
    detail: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<&'static str>,
}

#[derive(Serialize)]
struct FieldsBody<'a> {
    detail: &'a [FieldError],
    message: String,
}

impl Problem {
    /// A problem with a plain sentence. `detail` has no full stop.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: Detail::Text(detail.into()),
            error_type: None,
            headers: Vec::new(),
            may_have_cost: false,
        }
    }

    /// 422 with fal's list of field errors.
    #[must_use]
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let billable = (HeaderName::from_static("x-fal-billable-units"), HeaderValue::from_static("0"));
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: Detail::Fields(fields),
            error_type: None,
            headers: vec![billable],
            may_have_cost: false,
        }
    }

    /// 404 for a path that nothing answers, in fal's words.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let shown: String = path.chars().take(200).collect();
        Self::new(StatusCode::NOT_FOUND, format!("Path {shown} not found"))
    }

    /// 405 with the methods that would do, for example `"GET, POST, PUT"`.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed, use {allow}"))
            .with_header(ALLOW, HeaderValue::from_static(allow))
    }

    /// 413 for a body of more than `limit` bytes.
    #[must_use]
    pub fn too_large(limit: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("body is larger than {limit} bytes"))
    }

    /// 429, to be tried again after `wait` (rounded up to whole seconds).
    #[must_use]
    pub fn rate_limited(detail: impl Into<Cow<'static, str>>, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).with_header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// Adds one of fal's `error_type` words, in the body and as `x-fal-error-type`.
    #[must_use]
    pub fn with_error_type(mut self, error_type: &'static str) -> Self {
        self.error_type = Some(error_type);
        self.with_header(HeaderName::from_static("x-fal-error-type"), HeaderValue::from_static(error_type))
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Marks the answer with [`MayHaveCost`].
    #[must_use]
    pub const fn that_may_have_cost(mut self) -> Self {
        self.may_have_cost = true;
        self
    }

    /// The status that will be sent.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// One sentence that says what is wrong; of a list, its first entry.
    #[must_use]
    pub fn message(&self) -> Cow<'_, str> {
        match &self.detail {
            Detail::Text(text) => Cow::Borrowed(text),
            Detail::Fields(fields) => Cow::Owned(fields.first().map_or_else(String::new, FieldError::sentence)),
        }
    }

    /// All that is wrong as one text, for answers that have no room for a list.
    #[must_use]
    pub fn reason(&self) -> Cow<'_, str> {
        match &self.detail {
            Detail::Text(text) => Cow::Borrowed(text),
            Detail::Fields(fields) => {
                let sentences: Vec<String> = fields.iter().map(FieldError::sentence).collect();
                Cow::Owned(sentences.join("; "))
            }
        }
    }

    fn body(&self) -> Vec<u8> {
        let written = match &self.detail {
            Detail::Text(text) => {
                serde_json::to_vec(&TextBody { detail: text, message: text, error_type: self.error_type })
            }
            Detail::Fields(fields) => {
                serde_json::to_vec(&FieldsBody { detail: fields, message: self.message().into_owned() })
            }
        };
        written.expect("strings and numbers always serialise")
    }
}

impl From<Problem> for Response<Body> {
    fn from(problem: Problem) -> Self {
        let mut response = Response::new(Body::from(problem.body()));
        *response.status_mut() = problem.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if problem.may_have_cost {
            response.extensions_mut().insert(MayHaveCost);
        }
        for (name, value) in problem.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A room's error that knows how callers should hear of it. Each room implements it once, below its error enum.
pub trait ToProblem {
    /// Picks status and public text.
    fn to_problem(&self) -> Problem;
}

impl ToProblem for CollectError {
    fn to_problem(&self) -> Problem {
        match self {
            Self::TooLarge { limit } => Problem::too_large(*limit),
            Self::NoRoom => Problem::rate_limited("too many requests are in hand, try again", Duration::from_secs(1)),
            Self::Broken(_) => Problem::new(StatusCode::BAD_REQUEST, "the request body ended early"),
        }
    }
}
