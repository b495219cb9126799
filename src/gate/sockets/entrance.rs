//! Who may open which socket.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Method, Request};
use secrecy::{ExposeSecret as _, SecretString};

use super::query::{Shown, take_token};
use crate::guard::{
    AccessKeys, Caller, CallerRefusal, CallerRules, KeyHolder, Tier, TokenFault, TokenSeat, TokenUse, Tokens,
};
use crate::wire::{
    AllowedTargets, Body, Door, HostClass, PlainPath, Problem, TargetRefusal, TargetUrl, ToProblem as _, host_class,
};

/// What the entrance knows.
#[derive(Debug)]
pub struct Entrance {
    /// What holders of tokens and keys may call.
    pub allowed: AllowedTargets,
    /// What may be called by whoever shows neither: the engine, and never the owner's bill.
    pub open: AllowedTargets,
    /// Checks tokens; `None` where the gate signs none.
    pub tokens: Option<Tokens>,
    /// Access keys of the direct door; `None` where it asks for none.
    pub keys: Option<AccessKeys>,
    /// Who may open what.
    pub callers: Arc<CallerRules>,
}

/// A socket that may be opened.
#[derive(Debug)]
pub struct Admission {
    /// What it asks for.
    pub target: TargetUrl,
    /// Who asks, where that is known.
    pub caller: Option<Caller>,
    /// The caller's tier, where it has one.
    pub tier: Option<Tier>,
    /// The place of its token.
    pub seat: Option<TokenSeat>,
}

/// Why a socket is not let in.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Answered as any request is: this is no socket.
    Answer(Problem),
    /// A socket, but not one that is served here.
    Closed(Problem),
    /// Answered on the socket, because clients that are refused otherwise show the same token for ever (protocol spec 6.6).
    Unauthorized,
}

/// Who shows what.
enum Holder {
    Known { caller: Option<Caller>, tier: Option<Tier>, seat: Option<TokenSeat> },
    Nobody,
}

impl Entrance {
    /// Judges a handshake. The token leaves its URL, a key its headers, whatever comes of it.
    pub(super) fn judge(&self, request: &mut Request<Body>) -> Result<Admission, Refusal> {
        let shown = take_token(request.uri_mut());
        let authorization = request.headers_mut().remove(AUTHORIZATION);
        let asked = Asked::of(request);
        let target = self.admit(&asked, &self.allowed).map_err(|refusal| match (refusal, &shown) {
            // No token opens this app, so the one that is shown does not.
            (Refusal::Closed(_), Shown::Token(_) | Shown::Confused) => Refusal::Unauthorized,
            (refusal, _) => refusal,
        })?;
        let alias = target.call().endpoint.as_ref().map_or("", |endpoint| endpoint.alias());
        let origin = asked.headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
        let holder = match (shown, authorization) {
            (Shown::Token(token), _) => self.by_token(&token, alias, origin)?,
            (Shown::Confused, _) => return Err(Refusal::Unauthorized),
            (Shown::Nothing, Some(header)) => match self.keys.as_ref().map(|keys| keys.check(Some(&header))) {
                Some(Ok(KeyHolder { caller, tier })) => {
                    Holder::Known { caller: Some(caller), tier: tier.map(Tier), seat: None }
                }
                _ if scheme_of(header.as_bytes()) == b"bearer" => {
                    let token = header.to_str().ok().and_then(|text| text.split_once(' '));
                    let token = SecretString::from(token.map_or("", |(_, token)| token.trim()).to_owned());
                    self.by_token(&token, alias, origin)?
                }
                Some(Err(_)) => return Err(Refusal::Unauthorized),
                // The direct door asks nobody for a key, so a key that is shown to it says nothing.
                None => Holder::Nobody,
            },
            (Shown::Nothing, None) if self.lets_anybody_in() && asked.is_legacy() => Holder::Nobody,
            (Shown::Nothing, None) => return Err(Refusal::Unauthorized),
        };
        match holder {
            Holder::Known { caller, tier, seat } => {
                match self.callers.judge(target.call(), caller.as_ref()) {
                    // A token without a name is one that the owner made by hand: nobody else gets one without the check.
                    Ok(()) | Err(CallerRefusal::Unchecked) => Ok(Admission { target, caller, tier, seat }),
                    Err(CallerRefusal::Closed) if seat.is_some() => Err(Refusal::Unauthorized),
                    Err(refusal) => Err(Self::refuse(&refusal)),
                }
            }
            Holder::Nobody => {
                let target = self.admit(&asked, &self.open)?;
                self.callers.judge(target.call(), None).map_err(|refusal| Self::refuse(&refusal))?;
                Ok(Admission { target, caller: None, tier: None, seat: None })
            }
        }
    }

    /// A closed route stays closed with every token; for the others a page may get itself a better one.
    fn refuse(refusal: &CallerRefusal) -> Refusal {
        match refusal {
            CallerRefusal::Closed => Refusal::Closed(refusal.to_problem()),
            CallerRefusal::Nameless { .. } | CallerRefusal::Unchecked => Refusal::Unauthorized,
        }
    }

    fn admit(&self, asked: &Asked<'_>, allowed: &AllowedTargets) -> Result<TargetUrl, Refusal> {
        let not_found = || Refusal::Answer(Problem::not_found(asked.path()));
        let plain = PlainPath {
            class: HostClass::Run,
            legacy_label: asked.label.as_deref(),
            method: asked.method,
            path_and_query: asked.path_and_query,
            door: Door::Socket,
        };
        let target = allowed.admit_path(&plain).map_err(|refusal| match refusal {
            TargetRefusal::Invalid(_) => not_found(),
            closed @ TargetRefusal::Endpoint { .. } => Refusal::Closed(closed.to_problem()),
            other => Refusal::Answer(other.to_problem()),
        })?;
        // An app by itself is no socket: clients add `/realtime`, `/ws` or a path of the app's own.
        let is_app_alone = target.call().endpoint.as_ref().is_some_and(|endpoint| endpoint.path().is_empty());
        if is_app_alone && !matches!(asked.last_segment(), "realtime" | "ws") {
            return Err(not_found());
        }
        Ok(target)
    }

    fn lets_anybody_in(&self) -> bool {
        self.tokens.as_ref().is_some_and(|tokens| tokens.settings().anonymous_sockets)
    }

    fn by_token(&self, token: &SecretString, alias: &str, origin: Option<&str>) -> Result<Holder, Refusal> {
        let used = TokenUse { alias, origin, now: SystemTime::now() };
        let held = self.tokens.as_ref().ok_or(Refusal::Unauthorized)?.check(token.expose_secret(), &used);
        let seated = held.and_then(|holder| holder.sit().map(|seat| (holder.caller, holder.tier, seat)));
        match seated {
            Ok((caller, tier, seat)) => Ok(Holder::Known { caller, tier, seat: Some(seat) }),
            Err(fault) => {
                log_fault(fault, alias);
                Err(Refusal::Unauthorized)
            }
        }
    }
}

fn log_fault(fault: TokenFault, alias: &str) {
    tracing::debug!(%fault, alias, "a socket was not let in");
}

fn scheme_of(header: &[u8]) -> Vec<u8> {
    header.split(|byte| *byte == b' ').next().unwrap_or_default().to_ascii_lowercase()
}

/// What a handshake asks for, in its own words.
struct Asked<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    label: Option<Arc<str>>,
    path_and_query: &'a str,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request<Body>) -> Self {
        let uri = request.uri();
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
        let host = host.to_ascii_lowercase();
        // Whatever the host is called, only the run host has sockets.
        let (_, label) = host_class(&host, uri.path());
        let path_and_query = uri.path_and_query().map_or("/", |whole| whole.as_str());
        Self { method: request.method(), headers: request.headers(), label: label.map(Into::into), path_and_query }
    }

    fn path(&self) -> &'a str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    fn last_segment(&self) -> &'a str {
        self.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// Whether a page made for fal's first gateway would ask like this.
    fn is_legacy(&self) -> bool {
        self.last_segment() == "ws"
    }
}
