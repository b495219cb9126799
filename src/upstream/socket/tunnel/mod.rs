//! A relayed socket once both sides are open: bytes pass as they come, and only frame headers are read.
//!
//! One task moves both directions. Where one side does not take what it is sent, the other is not read: nothing piles up
//! here but one buffer a direction. A quiet socket has no buffer at all.

mod direction;
mod down;
mod end;
mod farewell;
mod meaning;
mod pool;
mod rate;
#[cfg(test)]
mod tests;
mod up;

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

use direction::Direction;
use down::DownWatch;
use rate::{Rate, Rates};
use up::UpWatch;

use super::budget::InputAccount;
use super::judge::Judge;
use super::metrics::{RelayMetrics, Sender, Tally};
use super::settings::SocketSettings;
use crate::upstream::Alarm;
use crate::wire::frame::{FrameLimits, FrameSender};

pub(super) use down::Results;
pub(super) use end::{End, EndWord};
pub(super) use farewell::{Farewell, REFUSED, farewell, refuse};
pub(super) use pool::BufferPool;

/// Bytes of refusals that may wait for a client that does not read.
const REPLIES: usize = 16 * 1024;

/// What a tunnel is held to.
pub(super) struct Terms<'a> {
    pub(super) settings: &'a SocketSettings,
    pub(super) metrics: &'a RelayMetrics,
    pub(super) pool: BufferPool,
    pub(super) judge: Option<Judge>,
    pub(super) results: Results,
    pub(super) account: Option<Box<dyn InputAccount>>,
    /// True once the gate drains.
    pub(super) drain: watch::Receiver<bool>,
}

/// Both sides of a socket, and what is between them.
pub(super) struct Tunnel<C, U> {
    pub(super) client: C,
    pub(super) upstream: U,
    up: Direction,
    down: Direction,
    up_watch: UpWatch,
    down_watch: DownWatch,
    pool: BufferPool,
    clock: Clock,
    keeps_newest: bool,
    metrics: RelayMetrics,
}

/// When a tunnel ends by itself.
struct Clock {
    alarm: Alarm,
    idle: Duration,
    stall: Duration,
    /// Messages seen when something was last said, and when that was.
    said: (u64, Instant),
    ends_at: Instant,
    end: End,
    spread: Duration,
    drain: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<C, U> Tunnel<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn new(client: C, upstream: U, terms: Terms<'_>) -> Self {
        let Terms { settings, metrics, pool, judge, results, account, drain } = terms;
        let limits =
            |bytes: u64| FrameLimits { frame_bytes: bytes, message_bytes: bytes, fragments: settings.fragments.get() };
        let rates = Rates {
            frames: Rate::new(settings.frames_per_s.get().into(), settings.frames_burst.get().into()),
            bytes: Rate::new(settings.bytes_per_s.get(), settings.bytes_burst.get()),
        };
        let (client_limits, upstream_limits) =
            (limits(settings.client_message_bytes.get()), limits(settings.upstream_message_bytes.get()));
        Self {
            client,
            upstream,
            up: Direction::new(FrameSender::Client, client_limits, metrics.direction(Sender::Client)).with_rates(rates),
            down: Direction::new(FrameSender::Server, upstream_limits, metrics.direction(Sender::Upstream)),
            up_watch: UpWatch::new(judge).with_account(account),
            down_watch: DownWatch::new(results),
            pool,
            clock: Clock::new(settings, drain),
            keeps_newest: settings.reconnect,
            metrics: metrics.clone(),
        }
    }

    /// Puts bytes in front of what fal's side will send: they came with its answer to the handshake.
    pub(super) fn begin_with(&mut self, bytes: &[u8]) {
        self.down.receive(bytes);
    }

    /// Moves bytes both ways. Ready when the socket ends.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // While a client does not read what it is told of its inputs, no more of them are read.
            let reads_inputs = self.down.waiting_between() < REPLIES;
            if reads_inputs {
                let sides = (&mut self.client, &mut self.upstream);
                if let Poll::Ready(end) = self.up.pump(cx, sides, (&mut self.up_watch, &self.pool)) {
                    return Poll::Ready(end);
                }
            }
            if let Some((mut replies, refused)) = self.up_watch.replies() {
                self.down.say_between(&mut replies);
                (0..refused).for_each(|_| self.metrics.refused_input());
            }
            let sides = (&mut self.upstream, &mut self.client);
            if let Poll::Ready(end) = self.down.pump(cx, sides, (&mut self.down_watch, &self.pool)) {
                return Poll::Ready(end);
            }
            if !reads_inputs && self.down.waiting_between() < REPLIES {
                // Whoever woke this task for the client's inputs does not come again.
                continue;
            }
            self.settle();
            if self.up_watch.keeps_newest() && !self.keeps_newest && self.down_watch.is_confirmed() {
                self.up_watch.forget_newest();
            }
            match self.clock.poll(cx, &self.up, &self.down) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                // A client that was too fast is read again.
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Tells what the inputs are charged to of what came of them.
    fn settle(&mut self) {
        let (results, failures) = self.down_watch.take_answers();
        let Some(account) = self.up_watch.account().filter(|_| results + failures > 0) else { return };
        account.results(results);
        account.failures(failures);
    }

    /// The newest input, if another socket of fal's can take this one's place: the client has had whole messages only.
    pub(super) fn can_begin_again(&self) -> Option<Vec<u8>> {
        let is_whole = self.up.is_between_frames() || !self.up_watch.current().is_control();
        self.up_watch.newest().filter(|_| is_whole && self.down.is_between_messages())
    }

    /// Goes on with another socket of fal's, which is sent the newest input first.
    pub(super) fn begin_again(&mut self, upstream: U, newest: Vec<u8>) {
        self.upstream = upstream;
        self.up.begin_again(newest);
        self.down.forget();
        self.down_watch.begin_again();
    }

    /// What was moved: of the client's, of fal's, and how many pictures.
    pub(super) fn tallies(&self) -> (Tally, Tally, u64) {
        (*self.up.tally(), *self.down.tally(), self.down_watch.pictures())
    }
}

impl Clock {
    fn new(settings: &SocketSettings, mut drain: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        let life = Duration::from_secs(settings.life_s.get());
        let earlier = life.mul_f64(rand::random::<f64>() * 0.1);
        Self {
            alarm: Alarm::default(),
            idle: Duration::from_secs(settings.idle_s.get()),
            stall: Duration::from_millis(settings.write_stall_ms.get()),
            said: (0, now),
            ends_at: now + life.saturating_sub(earlier),
            end: End::Old,
            spread: Duration::from_millis(settings.drain_spread_ms),
            drain: Box::pin(async move {
                if drain.wait_for(|drains| *drains).await.is_err() {
                    // Whoever would say so is gone: nobody drains.
                    std::future::pending::<()>().await;
                }
            }),
        }
    }

    /// Ready with an end when it is time for one, and without when a client may be read again.
    fn poll(&mut self, cx: &mut Context<'_>, up: &Direction, down: &Direction) -> Poll<Option<End>> {
        if self.end != End::Drained && self.drain.as_mut().poll(cx).is_ready() {
            self.end = End::Drained;
            self.ends_at = self.ends_at.min(Instant::now() + self.spread.mul_f64(rand::random()));
        }
        let said = up.tally().messages + down.tally().messages;
        if said != self.said.0 {
            self.said = (said, Instant::now());
        }
        let now = Instant::now();
        let idle_at = self.said.1 + self.idle;
        let stalls = [
            down.stalls_at(self.stall).map(|at| (at, Some(End::ClientStalled))),
            up.stalls_at(self.stall).map(|at| (at, Some(End::UpstreamStalled))),
            up.opens_at(now).map(|at| (at, None)),
        ];
        let (mut first, mut end) = (self.ends_at, Some(self.end.clone()));
        let others = stalls.into_iter().flatten().chain([(idle_at, Some(End::Idle))]);
        for (at, what) in others {
            if at < first {
                (first, end) = (at, what);
            }
        }
        self.alarm.poll(cx, first).map(|()| end)
    }
}
