//! One relayed socket from its handshake to its line in the log.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::budget::{EachInput, InputAccount, InputBudget};
use super::dial::Line;
use super::error::OpenError;
use super::judge::Judge;
use super::metrics::{RelayMetrics, Sender};
use super::open::{Opener, Shown, SocketCall};
use super::rules::InputRules;
use super::settings::SocketSettings;
use super::shake::Shaken;
use super::tunnel::{BufferPool, End, Farewell, Results, Terms, Tunnel, farewell, refuse};
use crate::wire::{Body, MemoryBudget, TargetUrl};

/// Pauses before fal's socket is opened anew after it broke off. So often it is tried until a result comes.
const RECONNECT_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(1)];

/// What all relayed sockets share.
pub(super) struct Relay<S> {
    pub(super) opener: Opener<S>,
    pub(super) settings: Arc<SocketSettings>,
    pub(super) metrics: RelayMetrics,
    pub(super) rules: Option<Arc<dyn InputRules>>,
    pub(super) budget: Option<Arc<dyn InputBudget>>,
    pub(super) pool: BufferPool,
    /// What inputs that are held are charged to.
    pub(super) memory: MemoryBudget,
    pub(super) drain: watch::Receiver<bool>,
}

type Client = TokioIo<Upgraded>;

/// A socket whose upstream's side is open.
struct HalfOpen {
    call: SocketCall,
    upgrade: OnUpgrade,
    shaken: Shaken,
    shown: Shown,
}

/// A socket whose both sides are open.
struct Open {
    call: SocketCall,
    tunnel: Tunnel<Client, Line>,
    shown: Shown,
    again: Again,
}

/// What was done to go on with another socket of fal's, since the last result.
#[derive(Debug, Default)]
struct Again {
    tries: usize,
    /// Whether fal has refused what it was shown.
    was_refused: bool,
}

/// What comes first while fal's socket is opened anew.
enum Next {
    Opened(Result<(Shaken, Shown), OpenError>),
    Ended(End),
}

impl<S> Relay<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    /// Opens fal's socket, and leaves a task behind that relays as soon as the client's is open too.
    ///
    /// The task ends with either side, at the limits of the settings, and when the gate drains.
    pub(super) async fn take(self: Arc<Self>, call: SocketCall, upgrade: OnUpgrade) {
        match self.opener.open(&call, None).await {
            Ok((shaken, shown)) => {
                // Boxed, so that the task does not keep room for what it begins with.
                let half = Box::new(HalfOpen { call, upgrade, shaken, shown });
                tokio::spawn(self.run(half));
            }
            Err(error) => {
                warn(&call, &error);
                let (words, metrics) = (error.to_farewell(), self.metrics.clone());
                // Ends by its own deadlines. The socket counts until then.
                tokio::spawn(async move {
                    if let Ok(client) = upgrade.await {
                        refuse(&mut TokioIo::new(client), words, &metrics).await;
                    }
                    drop(call);
                });
            }
        }
    }

    /// What the inputs of the socket that `handshake` opens are charged to; `None` where nothing counts them.
    pub(super) fn account(&self, target: &TargetUrl, handshake: &Request<Body>) -> Option<Box<dyn InputAccount>> {
        self.budget.as_ref().and_then(|budget| budget.account(handshake, self.each_input(target)))
    }

    fn each_input(&self, target: &TargetUrl) -> EachInput {
        let is_known = |endpoint| self.settings.picture_endpoints.iter().any(|known| known.matches(endpoint));
        let is_known = target.call().endpoint.as_ref().is_some_and(is_known);
        if is_known { EachInput::Picture } else { EachInput::Unknown }
    }

    async fn run(self: Arc<Self>, mut half: Box<HalfOpen>) {
        // A client that went away before its handshake was answered.
        let Ok(client) = (&mut half.upgrade).await else { return };
        let _open = self.metrics.opened();
        let began = Instant::now();
        let mut open = self.join(*half, TokioIo::new(client));
        let end = loop {
            let end = poll_fn(|cx| open.tunnel.poll(cx)).await;
            if let Err(end) = Box::pin(self.begin_again(&mut open, end)).await {
                break end;
            }
        };
        let words = self.words(&open, &end);
        Box::pin(farewell(&mut open.tunnel, &end, words)).await;
        self.report(&open, &end, began.elapsed());
    }

    fn join(&self, half: HalfOpen, client: Client) -> Box<Open> {
        let HalfOpen { mut call, shaken, shown, .. } = half;
        let account = call.account.take();
        let endpoint = call.target.call().endpoint.as_ref();
        let query = call.target.path_and_query().query();
        let judge = self.rules.as_ref().zip(endpoint);
        let judge = judge.and_then(|(rules, endpoint)| Judge::new(rules, endpoint, query));
        let terms = Terms {
            settings: &self.settings,
            metrics: &self.metrics,
            pool: self.pool.clone(),
            memory: self.memory.clone(),
            judge,
            results: match self.each_input(&call.target) {
                EachInput::Picture => Results::Pictures,
                EachInput::Unknown => Results::Other,
            },
            account,
            drain: self.drain.clone(),
        };
        let mut tunnel = Tunnel::new(client, shaken.line, terms);
        tunnel.begin_with(&shaken.first);
        Box::new(Open { call, tunnel, shown, again: Again::default() })
    }

    /// Puts another socket of fal's in the place of one that ended, where that is of use.
    ///
    /// # Errors
    /// The end that stands: that one, or another that came meanwhile.
    async fn begin_again(&self, open: &mut Open, end: End) -> Result<(), End> {
        if open.tunnel.was_answered() {
            open.again = Again::default();
        }
        let refused = match end {
            End::Unauthorized if !open.again.was_refused => Some(open.shown.clone()),
            End::UpstreamLost if self.settings.reconnect => None,
            _ => return Err(end),
        };
        open.again.was_refused |= refused.is_some();
        if !open.tunnel.go_away(&end) {
            return Err(end);
        }
        while let Some(pause) = RECONNECT_AFTER.get(open.again.tries) {
            open.again.tries += 1;
            let Open { call, tunnel, .. } = &mut *open;
            let opening = async {
                sleep(*pause).await;
                self.opener.open(call, refused.as_ref()).await
            };
            let next = tokio::select! {
                opened = opening => Next::Opened(opened),
                end = poll_fn(|cx| tunnel.poll_away(cx)) => Next::Ended(end),
            };
            match next {
                Next::Opened(Ok((shaken, shown))) => {
                    self.metrics.reconnected();
                    tunnel.begin_again(shaken.line);
                    tunnel.begin_with(&shaken.first);
                    open.shown = shown;
                    return Ok(());
                }
                Next::Opened(Err(error)) => warn(call, &error),
                Next::Ended(end) => return Err(end),
            }
            if refused.is_some() {
                break;
            }
        }
        Err(end)
    }

    /// What both sides are told; nothing of fal's that is not for the client.
    fn words(&self, open: &Open, end: &End) -> Farewell {
        let mut words = Farewell::of(end);
        if self.opener.repeats_a_secret(&words.client.text, &open.shown) {
            words.client.text = "".into();
        }
        words
    }

    /// Writes the socket's line.
    fn report(&self, open: &Open, end: &End, lived: Duration) {
        let (client, upstream, pictures) = open.tunnel.tallies();
        self.metrics.ended(end.word());
        self.metrics.messages(Sender::Client, client.messages);
        self.metrics.messages(Sender::Upstream, upstream.messages);
        self.metrics.pictures(pictures);
        tracing::info!(
            request_id = open.call.request_id.as_deref(),
            endpoint = open.call.endpoint(),
            caller = open.call.caller.as_ref().map(|caller| &*caller.0),
            end = end.word().as_str(),
            messages_in = client.messages,
            bytes_in = client.bytes,
            messages_out = upstream.messages,
            bytes_out = upstream.bytes,
            pictures,
            seconds = lived.as_secs_f64(),
            "a relayed socket ended"
        );
    }
}

fn warn(call: &SocketCall, error: &OpenError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(endpoint = call.endpoint(), %error, cause, "fal's socket is not open");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_socket_keeps_little_room() {
        // What 5,000 of them cost is measured by scripts/bench-sockets.sh; this notices a field that grows unseen.
        let bytes = size_of::<Open>();
        assert!(bytes <= 1536, "{bytes} bytes");
    }
}
