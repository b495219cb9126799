//! Opens fal's socket: shows a token or a key, dials, shakes hands, and tries again where that may help.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::budget::InputAccount;
use super::dial::SocketDialer;
use super::error::OpenError;
use super::metrics::RelayMetrics;
use super::settings::SocketAuth;
use super::shake::{Shaken, shake};
use super::token::{FalToken, FalTokens};
use crate::telemetry::CallerNote;
use crate::upstream::key::attach_key;
use crate::upstream::key_ring::{Rest, Slot};
use crate::upstream::{Address, KeyRing};
use crate::wire::{Body, SocketPass, TargetUrl};

/// A caller's wish for a socket.
#[derive(Debug)]
pub(super) struct SocketCall {
    pub(super) target: TargetUrl,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) request_id: Option<String>,
    /// Who asks, for the log.
    pub(super) caller: Option<CallerNote>,
    /// What its inputs are charged to, until the socket is open.
    pub(super) account: Option<Box<dyn InputAccount>>,
    /// Its place in counts, held until the socket ends.
    pub(super) _pass: Option<SocketPass>,
}

impl SocketCall {
    /// The endpoint, for the log.
    pub(super) fn endpoint(&self) -> &str {
        self.target.call().endpoint.as_ref().map_or("", |endpoint| endpoint.as_str())
    }
}

/// What fal was shown.
#[derive(Clone)]
pub(super) enum Shown {
    Token(Arc<FalToken>),
    Key(Arc<Slot>),
}

impl Shown {
    fn is_in(&self, text: &str) -> bool {
        match self {
            Self::Token(token) => token.is_in(text),
            Self::Key(slot) => slot.key().is_in(text),
        }
    }
}

/// Opens sockets.
#[derive(Debug)]
pub(super) struct Opener<S> {
    /// Answers plain calls with the key; tokens are minted through it.
    pub(super) client: S,
    pub(super) keys: KeyRing,
    pub(super) dialer: SocketDialer,
    pub(super) address: Address,
    pub(super) auth: SocketAuth,
    pub(super) tokens: FalTokens,
    pub(super) limit: Duration,
    pub(super) metrics: RelayMetrics,
}

impl<S> Opener<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    /// Opens a socket. `refused` is what fal was shown on one that it then would not use.
    pub(super) async fn open(&self, call: &SocketCall, refused: Option<&Shown>) -> Result<(Shaken, Shown), OpenError> {
        let began = Instant::now();
        let opened = timeout(self.limit, async {
            match self.auth {
                SocketAuth::Token => self.with_token(call, refused).await,
                SocketAuth::Key => self.with_key(call, refused).await,
            }
        });
        let opened = opened.await.unwrap_or(Err(OpenError::Slow { after: self.limit }));
        match &opened {
            Ok(_) => self.metrics.open_took(began.elapsed()),
            Err(_) => self.metrics.unopened(),
        }
        opened
    }

    /// Whether a text of fal's repeats what fal was shown on a socket, or a key.
    pub(super) fn repeats_a_secret(&self, text: &str, shown: &Shown) -> bool {
        shown.is_in(text) || self.keys.is_in(text)
    }

    async fn with_token(&self, call: &SocketCall, refused: Option<&Shown>) -> Result<(Shaken, Shown), OpenError> {
        let alias = call.target.call().endpoint.as_ref().map_or("", |endpoint| endpoint.alias());
        if let Some(Shown::Token(token)) = refused {
            self.tokens.forget(alias, token).await;
        }
        let mut token = self.tokens.get(alias, &self.client).await?;
        let mut shaken = self.shake(call, Some(&token), HeaderMap::new()).await;
        // A token may have died early: fal restarted, or the key that minted it was revoked.
        if shaken.as_ref().is_err_and(OpenError::is_about_the_key) && refused.is_none() {
            self.tokens.forget(alias, &token).await;
            token = self.tokens.get(alias, &self.client).await?;
            shaken = self.shake(call, Some(&token), HeaderMap::new()).await;
        }
        Ok((shaken?, Shown::Token(token)))
    }

    async fn with_key(&self, call: &SocketCall, refused: Option<&Shown>) -> Result<(Shaken, Shown), OpenError> {
        let mut tried = Vec::new();
        if let Some(Shown::Key(slot)) = refused {
            self.keys.rest(slot, Rest::Refused);
            tried.push(Arc::clone(slot));
        }
        let mut last = OpenError::Unauthorized;
        while let Some(slot) = self.keys.pick(&tried) {
            let mut headers = HeaderMap::new();
            attach_key(&call.target, slot.key(), &mut headers);
            match self.shake(call, None, headers).await {
                Ok(shaken) => return Ok((shaken, Shown::Key(slot))),
                Err(error) if error.is_about_the_key() => {
                    let why = match &error {
                        OpenError::Status { status: StatusCode::TOO_MANY_REQUESTS, retry_after } => {
                            Rest::Limited(*retry_after)
                        }
                        _ => Rest::Refused,
                    };
                    self.keys.rest(&slot, why);
                    tried.push(slot);
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn shake(
        &self,
        call: &SocketCall,
        token: Option<&FalToken>,
        mut headers: HeaderMap,
    ) -> Result<Shaken, OpenError> {
        if let Some(agent) = &call.user_agent {
            headers.insert(USER_AGENT, agent.clone());
        }
        let path = path_with(call.target.path_and_query(), token);
        let line = self.dialer.dial(&self.address).await?;
        shake(line, &self.address, path, headers).await
    }
}

/// The path as the caller gave it, with fal's token in the place of any other.
fn path_with(asked: &PathAndQuery, token: Option<&FalToken>) -> PathAndQuery {
    let pairs = asked.query().into_iter().flat_map(|query| query.split('&'));
    let others = pairs.filter(|pair| !pair.is_empty() && !names_a_token(pair));
    let mut query = others.collect::<Vec<_>>().join("&");
    if let Some(token) = token {
        if !query.is_empty() {
            query.push('&');
        }
        token.write_into(&mut query);
    }
    let path = asked.path();
    let text = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    PathAndQuery::try_from(text).expect("parts of a query and an encoded token are a query")
}

fn names_a_token(pair: &str) -> bool {
    let key = pair.split('=').next().unwrap_or_default();
    percent_encoding::percent_decode_str(key).decode_utf8_lossy().trim().eq_ignore_ascii_case("fal_jwt_token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gates_own_token_goes_no_further_and_the_rest_does() {
        for (asked, sent) in [
            ("/a/b/realtime?fal_jwt_token=mine&max_buffering=2", "/a/b/realtime?max_buffering=2"),
            ("/a/b/realtime?max_buffering=2&fal%5Fjwt_token=mine", "/a/b/realtime?max_buffering=2"),
            ("/a/b/realtime?FAL_JWT_TOKEN=mine", "/a/b/realtime"),
            ("/a/b/realtime?a=1&&fal_jwt_token&b", "/a/b/realtime?a=1&b"),
            ("/a/b/ws", "/a/b/ws"),
        ] {
            assert_eq!(path_with(&PathAndQuery::from_static(asked), None), sent);
        }
    }
}
