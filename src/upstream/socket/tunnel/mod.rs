//! A relayed socket once both sides are open: bytes pass as they come, and only frame headers are read.
//!
//! One task moves both directions. Where one side does not take what it is sent, the other is not read: nothing piles up
//! here but one buffer a direction. A quiet socket has no buffer at all.

mod direction;
mod down;
mod end;
mod farewell;
mod held;
mod meaning;
mod newest;
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
use crate::wire::MemoryBudget;
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
    pub(super) memory: MemoryBudget,
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
        let Terms { settings, metrics, pool, memory, judge, results, account, drain } = terms;
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
            up_watch: UpWatch::new(memory).with_judge(judge).with_account(account),
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
            if self.up.has_written_all() {
                self.up_watch.written();
            }
            self.take_replies();
            let sides = (&mut self.upstream, &mut self.client);
            if let Poll::Ready(end) = self.down.pump(cx, sides, (&mut self.down_watch, &self.pool)) {
                return Poll::Ready(end);
            }
            if !reads_inputs && self.down.waiting_between() < REPLIES {
                // Whoever woke this task for the client's inputs does not come again.
                continue;
            }
            self.settle();
            if !self.keeps_newest && self.down_watch.is_confirmed() {
                self.up_watch.newest().stop();
            }
            match self.clock.poll(cx, &self.up, &self.down) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                // A client that was too fast is read again.
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Lets the client hear of inputs that were refused, once it can.
    fn take_replies(&mut self) {
        if let Some((mut replies, told)) = self.up_watch.replies() {
            self.down.say_between(&mut replies);
            self.metrics.refused_inputs(told.refused);
            self.metrics.unheld_inputs(told.unheld);
        }
    }

    /// Tells what the inputs are charged to of what came of them, and lets go of an input that has its answer.
    fn settle(&mut self) {
        let is_whole = self.down.is_between_messages();
        let watch = &mut self.down_watch;
        let (results, failures) = if is_whole { watch.take_all_answers() } else { watch.take_answers() };
        if results + failures == 0 {
            return;
        }
        self.up_watch.newest().answered(results, failures);
        if !self.up.is_within_message() {
            self.up_watch.newest().forget_answered();
        }
        if let (Results::Pictures, Some(account)) = (self.down_watch.kind(), self.up_watch.account()) {
            account.results(results);
            account.failures(failures);
        }
    }

    /// Whether an input has been answered on this socket of fal's.
    pub(super) fn was_answered(&mut self) -> bool {
        self.settle();
        self.up_watch.newest().was_answered()
    }

    /// Goes on without fal, whose socket came to this end. False where another cannot take its place: the client has had a part
    /// of a message, or nothing was kept.
    pub(super) fn go_away(&mut self, end: &End) -> bool {
        if !self.up_watch.newest().is_kept() || !self.down.is_between_messages() {
            return false;
        }
        if *end == End::Unauthorized || self.up.is_within_message() && self.up_watch.lets_pass() {
            self.up_watch.newest().note_untouched();
        }
        self.up_watch.newest().go_away();
        self.up.begin_again(Vec::new());
        true
    }

    /// Takes what the client sends while there is no fal: the newest input is kept. Ready when the socket ends.
    pub(super) fn poll_away(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.down.waiting_between() < REPLIES {
                let sides = (&mut self.client, &mut tokio::io::sink());
                if let Poll::Ready(end) = self.up.pump(cx, sides, (&mut self.up_watch, &self.pool)) {
                    return Poll::Ready(end);
                }
            }
            self.up_watch.written();
            self.take_replies();
            match self.clock.poll(cx, &self.up, &self.down) {
                Poll::Ready(Some(end)) => return Poll::Ready(end),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Goes on with another socket of fal's, which is sent the newest input first if that has no answer.
    pub(super) fn begin_again(&mut self, upstream: U) {
        self.upstream = upstream;
        let first = self.up_watch.begin_again();
        if self.up_watch.is_in_control() || !self.up_watch.lets_pass() {
            self.up.skip_frame();
        }
        self.up.begin_again(first);
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
