//! A connection that only shows hyper what is beyond doubt, and only for as long as the client keeps pace.

mod read;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::gate::accept::connections::{Pass, Stage, StageWatch};
use crate::gate::accept::deadline::{Pace, PaceRule};
use crate::gate::accept::framing::{BodyKind, Fault, Framer, Head, Phase, Taken};
use crate::gate::accept::refusal::stand_in;
use crate::gate::accept::settings::{LimitSettings, ms};
use crate::upstream::Alarm;

pub(super) use read::{Http2, Waiting};

/// Bytes read at a time while nobody has lent a buffer.
const PIECE: usize = 16 * 1024;

/// What the connection and the services on it tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Requests that are being answered.
    pub(super) in_flight: AtomicU32,
    /// Requests seen so far, modulo 2^32.
    pub(super) seen: AtomicU32,
    /// The answer to a held handshake was 101.
    pub(super) upgraded: AtomicBool,
    /// The answer to a held handshake was something else.
    pub(super) stayed: AtomicBool,
    /// Who waits for the answer to a held handshake.
    pub(super) held: AtomicWaker,
    /// The head that goes to hyper next has underscores in a field name.
    pub(super) underscores: AtomicBool,
    /// No request is half read.
    pub(super) between: AtomicBool,
    /// The client does not take what it is sent.
    pub(super) blocked: AtomicBool,
}

/// A connection with strict framing and deadlines.
#[derive(Debug)]
pub(super) struct GuardedIo<T> {
    pub(super) inner: T,
    pub(super) framer: Framer,
    pub(super) shared: Arc<Shared>,
    /// Bytes that were read but not handed on.
    ahead: Vec<u8>,
    at: usize,
    /// How many of them may be handed on.
    granted: usize,
    /// The head that they start with, where they do.
    head: Option<Head>,
    /// They were looked at and need more to make sense.
    stuck: bool,
    ended: bool,
    broken: bool,
    head_ms: Duration,
    head_since: Option<Instant>,
    pub(super) idle_until: Option<Instant>,
    reading: Pace,
    read_rule: PaceRule,
    writing: Pace,
    write_rule: PaceRule,
    alarm: Alarm,
    linger: Option<(Instant, usize)>,
    cut: Option<StageWatch>,
    pass: Pass,
}

impl<T> GuardedIo<T> {
    pub(super) fn new(inner: T, settings: &LimitSettings, pass: Pass) -> Self {
        let shared = Shared::default();
        shared.between.store(true, Ordering::Relaxed);
        Self {
            inner,
            framer: Framer::new(settings.head()),
            shared: Arc::new(shared),
            ahead: Vec::new(),
            at: 0,
            granted: 0,
            head: None,
            stuck: false,
            ended: false,
            broken: false,
            head_ms: ms(settings.head_ms),
            head_since: None,
            idle_until: None,
            reading: Pace::default(),
            read_rule: PaceRule::of_bodies(settings),
            writing: Pace::default(),
            write_rule: PaceRule::of_writes(settings),
            alarm: Alarm::default(),
            linger: None,
            cut: None,
            pass,
        }
    }

    /// What was read and not handed on yet.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead[self.at..]
    }

    pub(super) const fn pass(&self) -> &Pass {
        &self.pass
    }

    /// Takes back bytes that hyper had been handed but did not use.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.ahead.splice(self.at..self.at, bytes.iter().copied());
            self.granted += bytes.len();
            self.head = None;
        }
    }

    /// A message that is wholly there and starts with its head, and the length of that head. None that is to be followed
    /// by another protocol, or comes in chunks.
    pub(super) fn whole_message(&self) -> Option<(&[u8], usize)> {
        let head = self.head.filter(|head| !head.upgrade && !self.ended)?;
        let body = match head.body {
            BodyKind::None => 0,
            BodyKind::Length(bytes) => usize::try_from(bytes).ok()?,
            BodyKind::Chunked => return None,
        };
        let is_whole = head.len.checked_add(body) == Some(self.granted) && self.framer.phase() == Phase::Head;
        is_whole.then(|| (&self.ahead[self.at..self.at + self.granted], head.len))
    }

    /// Forgets the whole message.
    pub(super) fn message_taken(&mut self) {
        self.head = None;
        self.drop_ahead(self.granted);
    }

    /// Lets the buffer go while nothing is in it.
    pub(super) fn give_back_buffers(&mut self) {
        if self.ahead().is_empty() {
            self.ahead = Vec::new();
            self.at = 0;
        }
    }

    /// Passes everything as it comes from now on: another protocol does its own framing.
    pub(super) fn tunnel(&mut self) {
        self.framer.open_tunnel();
        self.stuck = false;
        self.give_back_buffers();
    }

    fn note(&mut self, taken: Taken) {
        if let Some(head) = taken.head {
            self.head_since = None;
            self.reading.restart();
            self.shared.underscores.store(head.underscores, Ordering::Release);
        }
        self.shared.between.store(self.framer.phase() == Phase::Head, Ordering::Release);
    }

    /// Puts a request in the place of the one that is refused, so that the first service answers it in its turn.
    fn refuse(&mut self, fault: Fault) {
        match fault {
            Fault::Head(fault) => {
                self.head = None;
                self.ahead.clear();
                self.ahead.extend_from_slice(stand_in(fault).as_bytes());
                self.at = 0;
                self.granted = self.ahead.len();
                self.shared.between.store(false, Ordering::Release);
                self.shared.underscores.store(false, Ordering::Release);
            }
            Fault::Body(_) => self.broken = true,
        }
        self.ended = true;
    }

    /// Looks at what was read ahead.
    fn examine(&mut self) {
        if self.framer.phase() == Phase::Held {
            if self.shared.upgraded.swap(false, Ordering::AcqRel) {
                self.tunnel();
                self.cut = Some(self.pass.connections().watch());
            } else if self.shared.stayed.swap(false, Ordering::AcqRel) {
                self.framer.stay_http();
                self.shared.between.store(true, Ordering::Release);
                self.stuck = false;
            }
        }
        if self.stuck || self.ahead().is_empty() {
            return;
        }
        match self.framer.admit(&self.ahead[self.at..]) {
            Ok(taken) => {
                self.note(taken);
                self.granted = taken.bytes;
                self.head = taken.head;
                self.stuck = taken.bytes == 0;
            }
            Err(fault) => self.refuse(fault),
        }
    }

    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) {
        let bytes = self.granted.min(buf.remaining());
        buf.put_slice(&self.ahead[self.at..self.at + bytes]);
        self.head = None;
        self.drop_ahead(bytes);
    }

    /// Lets go of bytes that were handed on.
    fn drop_ahead(&mut self, bytes: usize) {
        self.at += bytes;
        self.granted -= bytes;
        if self.at == self.ahead.len() {
            self.at = 0;
            // Whoever reads a tunnel reads into a buffer of its own from now on.
            if self.ahead.capacity() > PIECE || self.framer.phase() == Phase::Tunnel {
                self.ahead = Vec::new();
            } else {
                self.ahead.clear();
            }
        }
    }

    /// When the client has kept us waiting for too long, in this phase.
    fn read_deadline(&mut self) -> Option<Instant> {
        match self.framer.phase() {
            Phase::Head if self.ahead().is_empty() => self.idle_until,
            Phase::Head => Some(*self.head_since.get_or_insert_with(Instant::now) + self.head_ms),
            Phase::Body => Some(self.reading.wait(&self.read_rule)),
            Phase::Held | Phase::Tunnel | Phase::Broken => None,
        }
    }

    /// Nothing to read now; too late?
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        if self.cut.as_mut().is_some_and(|watch| watch.poll(cx) == Stage::Closing) {
            return Poll::Ready(Late::Cut);
        }
        let Some(at) = self.read_deadline() else { return Poll::Pending };
        ready!(self.alarm.poll(cx, at));
        Poll::Ready(match self.framer.phase() {
            Phase::Head if self.ahead().is_empty() => Late::Idle,
            Phase::Head => Late::Head,
            Phase::Body | Phase::Held | Phase::Tunnel | Phase::Broken => Late::Body,
        })
    }
}

enum Late {
    Idle,
    Head,
    Body,
    Cut,
}
