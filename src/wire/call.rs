//! What a request asks of fal: the plain call behind every door (protocol spec 1.4).

use http::Method;

use super::EndpointId;
use super::endpoint::split_dash_form;

/// Which of fal's hosts a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostClass {
    /// `fal.run`: runs, streams, sockets.
    Run,
    /// `queue.fal.run`.
    Queue,
    /// `rest.fal.ai` and `rest.alpha.fal.ai`: tokens and storage.
    Rest,
}

impl HostClass {
    /// The host name that fal itself uses for this class today.
    #[must_use]
    pub const fn fal_host(self) -> &'static str {
        match self {
            Self::Run => "fal.run",
            Self::Queue => "queue.fal.run",
            Self::Rest => "rest.fal.ai",
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallKind {
    /// Run an app and wait for its output.
    Run,
    /// Run an app and read its output as server-sent events.
    Stream,
    /// Open a socket to an app.
    Realtime,
    /// Ask whether an app is well.
    Health,
    /// Put a request into the queue.
    Submit,
    /// Ask for the state of a queued request.
    Status,
    /// Read the states of a queued request as server-sent events.
    StatusStream,
    /// Fetch the result of a queued request.
    Result,
    /// Cancel a queued request.
    Cancel,
    /// Mint a token for sockets and streams.
    Token,
    /// Ask for an upload URL.
    Initiate,
    /// Ask for an upload URL that takes the file in parts.
    InitiateMultipart,
    /// Ask for a token to upload with.
    UploadToken,
    /// Fetch the keys that sign webhooks.
    WebhookKeys,
}

impl CallKind {
    /// A word for logs and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Stream => "stream",
            Self::Realtime => "realtime",
            Self::Health => "health",
            Self::Submit => "submit",
            Self::Status => "status",
            Self::StatusStream => "status_stream",
            Self::Result => "result",
            Self::Cancel => "cancel",
            Self::Token => "token",
            Self::Initiate => "initiate",
            Self::InitiateMultipart => "initiate_multipart",
            Self::UploadToken => "upload_token",
            Self::WebhookKeys => "webhook_keys",
        }
    }

    /// Whether the URL names only the app, whatever path the endpoint had at submit.
    #[must_use]
    pub const fn names_only_the_app(self) -> bool {
        matches!(self, Self::Status | Self::StatusStream | Self::Result | Self::Cancel)
    }

    /// Whether the call starts work that costs something.
    #[must_use]
    pub const fn starts_work(self) -> bool {
        matches!(self, Self::Run | Self::Stream | Self::Submit | Self::Realtime)
    }
}

/// A plain fal call: what is asked, and of which app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FalCall {
    /// What is asked.
    pub kind: CallKind,
    /// The app, where the call has one.
    pub endpoint: Option<EndpointId>,
    /// The queued request that is meant, where the call has one.
    pub request_id: Option<String>,
}

/// Why a path is no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCall {
    /// Nothing is there.
    UnknownPath,
    /// Something is there, but not for this method; these would do.
    Method(&'static str),
}

impl FalCall {
    /// Reads a call out of decoded path segments.
    pub(super) fn from_segments(
        class: HostClass,
        method: &Method,
        segments: &[&str],
        door: Door,
    ) -> Result<Self, NoCall> {
        match class {
            HostClass::Rest => Self::rest(method, segments),
            HostClass::Queue => Self::queue(method, segments),
            HostClass::Run => Self::run(method, segments, door),
        }
    }

    fn rest(method: &Method, segments: &[&str]) -> Result<Self, NoCall> {
        let (kind, wanted, allow) = match segments {
            ["tokens"] | ["tokens", "realtime"] => (CallKind::Token, Method::POST, "POST"),
            ["storage", "upload", "initiate"] => (CallKind::Initiate, Method::POST, "POST"),
            ["storage", "upload", "initiate-multipart"] => (CallKind::InitiateMultipart, Method::POST, "POST"),
            ["storage", "auth", "token"] => (CallKind::UploadToken, Method::POST, "POST"),
            [".well-known", "jwks.json"] => (CallKind::WebhookKeys, Method::GET, "GET"),
            _ => return Err(NoCall::UnknownPath),
        };
        if *method != wanted {
            return Err(NoCall::Method(allow));
        }
        Ok(Self { kind, endpoint: None, request_id: None })
    }

    fn run(method: &Method, segments: &[&str], door: Door) -> Result<Self, NoCall> {
        let (app, kind) = match segments {
            [app @ .., "stream"] => (app, CallKind::Stream),
            [app @ .., "realtime" | "ws"] if door == Door::Socket => (app, CallKind::Realtime),
            [app @ .., "health"] if *method == Method::GET => (app, CallKind::Health),
            _ => (segments, CallKind::Run),
        };
        // An app may itself be called `stream`: too short a rest means that the word was its alias.
        let (endpoint, kind) = match EndpointId::from_segments(app) {
            Some(endpoint) => (endpoint, kind),
            None => (EndpointId::from_segments(segments).ok_or(NoCall::UnknownPath)?, CallKind::Run),
        };
        let kind = if door == Door::Socket { CallKind::Realtime } else { kind };
        let fits = *method == Method::GET || *method == Method::POST && door == Door::Http;
        if !fits {
            return Err(NoCall::Method("GET, POST"));
        }
        Ok(Self { kind, endpoint: Some(endpoint), request_id: None })
    }

    fn queue(method: &Method, segments: &[&str]) -> Result<Self, NoCall> {
        let Some(at) = segments.iter().rposition(|segment| *segment == "requests").filter(|at| *at > 0) else {
            let endpoint = EndpointId::from_segments(segments).ok_or(NoCall::UnknownPath)?;
            if *method != Method::POST {
                return Err(NoCall::Method("POST"));
            }
            return Ok(Self { kind: CallKind::Submit, endpoint: Some(endpoint), request_id: None });
        };
        let endpoint = EndpointId::from_segments(&segments[..at]).ok_or(NoCall::UnknownPath)?;
        let (request_id, kind, wanted, allow) = match &segments[at + 1..] {
            [id, "status"] => (id, CallKind::Status, Method::GET, "GET"),
            [id, "status", "stream"] => (id, CallKind::StatusStream, Method::GET, "GET"),
            [id] | [id, "response"] => (id, CallKind::Result, Method::GET, "GET"),
            [id, "cancel"] => (id, CallKind::Cancel, Method::PUT, "PUT"),
            _ => return Err(NoCall::UnknownPath),
        };
        if *method != wanted {
            return Err(NoCall::Method(allow));
        }
        if request_id.len() > 100
            || !request_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return Err(NoCall::UnknownPath);
        }
        Ok(Self { kind, endpoint: Some(endpoint), request_id: Some((*request_id).to_owned()) })
    }
}

/// How the request came: as plain HTTP, or asking to become a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A plain HTTP request.
    Http,
    /// A WebSocket handshake.
    Socket,
}

/// Rewrites a call on a legacy gateway host, `{n}-{alias}.gateway…`, to the host class and path of today.
///
/// `label` is the first label of the host name. `None` when it is no app.
pub(super) fn from_legacy<'a>(label: &'a str, segments: &[&'a str]) -> Option<(HostClass, Vec<&'a str>)> {
    let (owner, alias) = split_dash_form(label)?;
    let mut path = vec![owner, alias];
    let class = match segments {
        ["fal", "queue", "submit", rest @ ..] => {
            path.extend_from_slice(rest);
            HostClass::Queue
        }
        ["fal", "queue", "requests", rest @ ..] => {
            path.push("requests");
            path.extend_from_slice(rest);
            HostClass::Queue
        }
        rest => {
            path.extend_from_slice(rest);
            HostClass::Run
        }
    };
    Some((class, path))
}
