//! Whether a call may be made by whoever makes it.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use super::caller::Caller;
use super::settings::CallerPolicy;
use super::visitor::HumanRule;
use crate::wire::{Body, CallKind, EndpointPattern, FalCall, Problem, Reach, TargetUrl, ToProblem, TokenIssuer};

/// Who may make which call.
#[derive(Debug, Clone)]
pub struct CallerRules {
    rows: Vec<(EndpointPattern, Option<CallerPolicy>)>,
    otherwise: CallerPolicy,
    human: HumanRule,
}

/// Why a caller may not make a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallerRefusal {
    /// Nobody may.
    #[error("the route is closed")]
    Closed,
    /// Only callers with a name may.
    #[error("the caller has no name")]
    Nameless {
        /// The app that was called, where the call names one.
        app: Option<String>,
    },
    /// Whoever has no name must have passed a human check.
    #[error("the caller has not passed the human check")]
    Unchecked,
}

impl ToProblem for CallerRefusal {
    fn to_problem(&self) -> Problem {
        let key = |problem: Problem| problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Key"));
        match self {
            Self::Closed => Problem::new(StatusCode::FORBIDDEN, "This application is closed to callers"),
            Self::Nameless { app: Some(app) } => key(Problem::new(
                StatusCode::UNAUTHORIZED,
                format!("Cannot access application \"{app}\". Authentication is required to access this application."),
            )),
            Self::Nameless { app: None } => key(Problem::new(
                StatusCode::UNAUTHORIZED,
                "Cannot access application. Authentication is required to access this application.",
            )),
            Self::Unchecked => {
                let sentence = "Pass the human check of this page first";
                Problem::new(StatusCode::UNAUTHORIZED, sentence).with_error_type("human_check_required")
            }
        }
    }
}

impl CallerRules {
    /// The first row that matches decides, where it says something, and `otherwise` does.
    #[must_use]
    pub fn new(
        rows: impl IntoIterator<Item = (EndpointPattern, Option<CallerPolicy>)>,
        otherwise: CallerPolicy,
    ) -> Self {
        Self { rows: rows.into_iter().collect(), otherwise, human: HumanRule::Anyone }
    }

    /// Wants callers without a name to be what `human` says.
    #[must_use]
    pub const fn with_human(mut self, human: HumanRule) -> Self {
        self.human = human;
        self
    }

    /// Whether `caller` may make the call.
    ///
    /// # Errors
    /// [`CallerRefusal`] if not.
    pub fn judge(&self, call: &FalCall, caller: Option<&Caller>) -> Result<(), CallerRefusal> {
        self.hold(self.policy(call), call, caller)
    }

    /// Whether `caller` may have a token that fal signs: its socket goes past this gate, so nobody judges it again, and the
    /// strictest of all rows holds. Rows that are closed have no such tokens.
    ///
    /// # Errors
    /// [`CallerRefusal`] if not.
    pub fn judge_token_of_fal(&self, call: &FalCall, caller: Option<&Caller>) -> Result<(), CallerRefusal> {
        let wants_names = |policy: &CallerPolicy| *policy == CallerPolicy::Required;
        let strictest = match self.otherwise {
            CallerPolicy::Deny => CallerPolicy::Deny,
            _ if self.rows.iter().filter_map(|(_, policy)| policy.as_ref()).any(wants_names) => CallerPolicy::Required,
            otherwise => otherwise,
        };
        self.hold(strictest, call, caller)
    }

    fn hold(&self, policy: CallerPolicy, call: &FalCall, caller: Option<&Caller>) -> Result<(), CallerRefusal> {
        let is_named = caller.is_some_and(|caller| !caller.is_visitor());
        match policy {
            CallerPolicy::Deny => Err(CallerRefusal::Closed),
            CallerPolicy::Required if !is_named => {
                Err(CallerRefusal::Nameless { app: call.endpoint.as_ref().map(ToString::to_string) })
            }
            CallerPolicy::Anonymous if caller.is_none() && self.human == HumanRule::Checked => {
                Err(CallerRefusal::Unchecked)
            }
            CallerPolicy::Anonymous | CallerPolicy::Required => Ok(()),
        }
    }

    fn policy(&self, call: &FalCall) -> CallerPolicy {
        let Some(endpoint) = &call.endpoint else {
            return if call.kind == CallKind::Token { self.widest() } else { self.otherwise };
        };
        let meant = |pattern: &EndpointPattern| {
            pattern.matches(endpoint) || call.kind.names_only_the_app() && pattern.matches_app(endpoint)
        };
        let row = self.rows.iter().find(|(pattern, _)| meant(pattern));
        row.and_then(|(_, policy)| *policy).unwrap_or(self.otherwise)
    }

    /// A token names its apps in its body, and a socket is judged by its own app again: whoever may open any may have one.
    fn widest(&self) -> CallerPolicy {
        let all = || self.rows.iter().filter_map(|(_, policy)| *policy).chain([self.otherwise]);
        let first = [CallerPolicy::Anonymous, CallerPolicy::Required];
        first.into_iter().find(|wide| all().any(|policy| policy == *wide)).unwrap_or(CallerPolicy::Deny)
    }
}

/// How far callers without a name come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamelessReach {
    /// As far as the call was admitted.
    AsAdmitted,
    /// Not beyond whoever answers here: the owner's bill is not opened by those whom nobody knows.
    Here,
}

/// Lets only those make a call that its route wants.
///
/// Needs [`TargetUrl`], reads [`Caller`] and [`TokenIssuer`]; adds nothing. A call without a [`TargetUrl`] and `OPTIONS` pass.
#[derive(Debug, Clone)]
pub struct CallersLayer {
    rules: Arc<CallerRules>,
    nameless: NamelessReach,
}

impl CallersLayer {
    /// Judges by `rules`.
    #[must_use]
    pub const fn new(rules: Arc<CallerRules>, nameless: NamelessReach) -> Self {
        Self { rules, nameless }
    }
}

impl<S> Layer<S> for CallersLayer {
    type Service = JudgeCallers<S>;

    fn layer(&self, inner: S) -> JudgeCallers<S> {
        JudgeCallers { inner, layer: self.clone() }
    }
}

/// The service of [`CallersLayer`].
#[derive(Debug, Clone)]
pub struct JudgeCallers<S> {
    inner: S,
    layer: CallersLayer,
}

impl<S, B> Service<Request<B>> for JudgeCallers<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let extensions = request.extensions();
        let caller = extensions.get::<Caller>();
        let Some(target) = extensions.get::<TargetUrl>().filter(|_| request.method() != Method::OPTIONS) else {
            return Either::Left(self.inner.call(request));
        };
        // Only the proxy, which has looked at the apps that are named, says who signs a token.
        let judged = match extensions.get::<TokenIssuer>() {
            Some(TokenIssuer::Fal) => self.layer.rules.judge_token_of_fal(target.call(), caller),
            Some(TokenIssuer::Gate) | None => self.layer.rules.judge(target.call(), caller),
        };
        if let Err(refusal) = judged {
            return Either::Right(ready(Ok(refusal.to_problem().into())));
        }
        let is_nameless = caller.is_none_or(Caller::is_visitor);
        if is_nameless && self.layer.nameless == NamelessReach::Here && target.reach() == Reach::Fal {
            let near = target.kept_here();
            request.extensions_mut().insert(near);
        }
        Either::Left(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EndpointId;

    fn rules(human: HumanRule) -> CallerRules {
        let row = |pattern: &str, policy| (EndpointPattern::parse(pattern).unwrap(), policy);
        let rows = [
            row("fal-ai/closed", Some(CallerPolicy::Deny)),
            row("fal-ai/members/**", Some(CallerPolicy::Required)),
            row("fal-ai/usual", None),
            row("fal-ai/**", Some(CallerPolicy::Anonymous)),
        ];
        CallerRules::new(rows, CallerPolicy::Required).with_human(human)
    }

    fn judge(human: HumanRule, app: &str, caller: Option<&str>) -> &'static str {
        let call = FalCall { kind: CallKind::Run, endpoint: EndpointId::parse(app), request_id: None };
        let caller = caller.map(|name| Caller { name: name.into() });
        match rules(human).judge(&call, caller.as_ref()) {
            Ok(()) => "ok",
            Err(CallerRefusal::Closed) => "closed",
            Err(CallerRefusal::Nameless { .. }) => "nameless",
            Err(CallerRefusal::Unchecked) => "unchecked",
        }
    }

    #[test]
    fn each_route_wants_its_callers() {
        let table = [
            ("fal-ai/closed", ["closed", "closed", "closed"]),
            ("fal-ai/members/paint", ["nameless", "nameless", "ok"]),
            ("fal-ai/usual", ["nameless", "nameless", "ok"]),
            ("fal-ai/open", ["ok", "ok", "ok"]),
            ("me/unlisted", ["nameless", "nameless", "ok"]),
        ];
        for (app, wanted) in table {
            let found = [None, Some("visitor-1"), Some("ann")].map(|caller| judge(HumanRule::Anyone, app, caller));
            assert_eq!(found, wanted, "{app}");
        }
        let checked = [None, Some("visitor-1"), Some("ann")].map(|who| judge(HumanRule::Checked, "fal-ai/open", who));
        assert_eq!(checked, ["unchecked", "ok", "ok"]);
    }

    #[test]
    fn whoever_may_open_any_socket_may_have_a_token() {
        let token = FalCall { kind: CallKind::Token, endpoint: None, request_id: None };
        let initiate = FalCall { kind: CallKind::Initiate, endpoint: None, request_id: None };
        assert!(rules(HumanRule::Anyone).judge(&token, None).is_ok());
        assert!(rules(HumanRule::Anyone).judge(&initiate, None).is_err());
        assert!(rules(HumanRule::Anyone).judge_token_of_fal(&token, None).is_err(), "nobody judges its socket");
        assert_eq!(CallerRules::new([], CallerPolicy::Deny).judge(&token, None), Err(CallerRefusal::Closed));
    }
}
