//! One socket: what comes is read at once, what is rendered is the newest, what is sent is never a backlog.

mod deliver;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Sink as _, Stream as _};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::tungstenite::{Error as LineError, Message, error::ProtocolError};

use super::clock::{Due, Seen, Times, due};
use super::end::End;
use super::frame_budget::FrameCharge;
use super::inbox::{Inbox, Taken};
use super::line::{self, Line};
use super::mailbox::Mailbox;
use super::meter::Breach;
use super::metrics::{Dropped, Tally};
use super::outbox::Outbox;
use super::seat::{Asked, Seat};
use super::similar::Look;
use super::work::Work;
use crate::wire::message::Control;

/// Rounds of reading, working and writing before other tasks have their turn.
const ROUNDS: usize = 32;

/// A socket that is open.
pub(super) struct Socket {
    seat: Arc<Seat>,
    /// `None` only while it is renewed.
    line: Option<Line>,
    inbox: Inbox,
    mailbox: Mailbox<Box<Asked>>,
    outbox: Outbox<Message>,
    /// The input whose turn came, until somebody who keeps count has let it pass.
    asking: Option<(Box<Asked>, FrameCharge)>,
    work: Option<Box<Work>>,
    /// Something was handed to the line and has not left it.
    writing: bool,
    times: Times,
    input_at: Instant,
    pinged_at: Option<Instant>,
    is_parked: bool,
    alarm: Pin<Box<Sleep>>,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// It ends for this reason when the work in hand is done, or at this time.
    leaving: Option<(End, Instant)>,
    last_look: Option<Look>,
    /// A page of bare pictures was told that they are not checked.
    is_warned: bool,
    pub(super) tally: Tally,
}

impl Socket {
    pub(super) fn new(seat: Arc<Seat>, line: Line, drain: Pin<Box<dyn Future<Output = ()> + Send>>) -> Self {
        let (settings, now) = (seat.settings(), Instant::now());
        let one = std::num::NonZeroU8::MIN;
        let places = seat.wishes.waiting.unwrap_or(one).min(settings.most_waiting);
        let times = Times {
            idle: settings.idle(),
            ping: settings.ping(),
            park: settings.park(),
            message: settings.message(),
            old_at: now + settings.life(rand::random::<f64>()),
        };
        let mut outbox = Outbox::new();
        if seat.wishes.direct {
            let version = Some(crate::wire::message::DIRECT_VERSION);
            let hello = Control::Message { action: "falgate.direct", request_id: None, sequence: None, version };
            outbox.put_note(Message::text(hello.text()));
        }
        Self {
            inbox: Inbox::new(seat.wishes.direct),
            mailbox: Mailbox::new(places),
            outbox,
            asking: None,
            work: None,
            writing: false,
            times,
            input_at: now,
            pinged_at: None,
            is_parked: true,
            alarm: Box::pin(sleep_until(now + times.ping.min(times.idle))),
            drain,
            leaving: None,
            last_look: None,
            is_warned: false,
            tally: Tally::default(),
            line: Some(line),
            seat,
        }
    }

    fn line(&mut self) -> &mut Line {
        self.line.as_mut().expect("a line is only away while it is renewed")
    }

    /// The line, for the last words.
    pub(super) fn into_line(self) -> Line {
        self.line.expect("a line is only away while it is renewed")
    }

    /// Goes on until the socket has to end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..ROUNDS {
            let moved = match self.poll_write(cx) {
                Ok(wrote) => self.poll_work(cx) | wrote,
                Err(end) => return Poll::Ready(end),
            };
            let moved = match self.poll_read(cx) {
                Ok(read) => moved | read,
                Err(end) => return Poll::Ready(end),
            };
            if !moved {
                return self.poll_clock(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_busy(&self) -> bool {
        self.work.is_some() || self.asking.is_some() || !self.mailbox.is_empty()
    }

    /// Writes what waits; true if something moved.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut moved = false;
        loop {
            if self.writing {
                match Pin::new(self.line()).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.writing = false,
                    Poll::Ready(Err(error)) => return Err(self.ended_by(&error)),
                    Poll::Pending => return Ok(moved),
                }
            }
            let Some(message) = self.outbox.take() else { return Ok(moved) };
            self.send(message)?;
            moved = true;
        }
    }

    fn send(&mut self, message: Message) -> Result<(), End> {
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            self.tally.bytes_out += message.len() as u64;
            self.seat.metrics().went(message.len());
        }
        self.writing = true;
        self.is_parked = false;
        Pin::new(self.line()).start_send(message).map_err(|error| self.ended_by(&error))
    }

    /// Reads what came; true if something did.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let message = match Pin::new(self.line()).poll_next(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(None) => return Err(End::Closed),
            Poll::Ready(Some(Err(error))) => return Err(self.ended_by(&error)),
            Poll::Ready(Some(Ok(message))) => message,
        };
        self.is_parked = false;
        let now = Instant::now();
        match message {
            Message::Text(text) => {
                let memory = self.came(text.len());
                let taken = self.inbox.text(text.as_bytes(), now);
                // Text is copied into its input, whose memory this is from now on.
                self.take((taken, text.len()), now, memory);
            }
            Message::Binary(frame) => {
                let bytes = frame.len();
                let memory = self.came(bytes);
                let taken = self.inbox.binary(frame, now, memory);
                self.take((taken, bytes), now, None);
            }
            // The parser answers pings by itself; a flush carries the answer.
            Message::Ping(_) => self.writing = true,
            Message::Pong(_) | Message::Frame(_) => {}
            Message::Close(Some(_)) => return Err(End::Closed),
            Message::Close(None) => return Err(End::ClosedPlainly),
        }
        Ok(true)
    }

    fn came(&mut self, bytes: usize) -> Option<crate::wire::Reserved> {
        self.tally.bytes_in += bytes as u64;
        self.seat.metrics().came(bytes);
        self.line().get_mut().meter.hand_over(bytes)
    }

    fn take(&mut self, (taken, bytes): (Taken, usize), now: Instant, memory: Option<crate::wire::Reserved>) {
        if self.leaving.is_some() {
            return;
        }
        self.input_at = now;
        let over = self.seat.came(bytes).err();
        match (taken, over) {
            (Taken::Asked(asked), Some(over)) => {
                self.tally.inputs += 1;
                self.over_budget(("bytes", over), &asked.reply);
            }
            (Taken::Asked(mut asked), None) => {
                asked.memory = asked.memory.or(memory);
                self.tally.inputs += 1;
                if self.mailbox.is_full() && self.work.as_mut().is_some_and(|work| work.give_way()) {
                    self.superseded();
                }
                if self.mailbox.put(asked).is_some() {
                    self.superseded();
                }
            }
            (Taken::Answered(text), _) => self.note(text),
            (Taken::Refused(text), _) => {
                self.tally.inputs += 1;
                self.refuse(text);
            }
        }
    }

    fn superseded(&mut self) {
        self.tally.superseded += 1;
        self.seat.metrics().dropped(Dropped::Superseded);
    }

    fn refuse(&mut self, text: String) {
        self.tally.errors += 1;
        self.seat.metrics().failed();
        self.note(text);
    }

    fn note(&mut self, text: String) {
        if self.outbox.put_note(Message::text(text)).is_some() {
            self.seat.metrics().dropped(Dropped::Note);
        }
    }

    /// Goes on with the work in hand and begins what waits; true if something moved.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            let may_begin = self.work.as_ref().is_none_or(|work| work.may_begin());
            if may_begin
                && self.asking.is_none()
                && let Some(asked) = self.mailbox.take()
            {
                moved = true;
                match self.seat.charge(&asked.input) {
                    Some(charge) => self.asking = Some((asked, charge)),
                    None => self.begin(*asked),
                }
            }
            if let Some((_, charge)) = &mut self.asking
                && let Poll::Ready(charged) = charge.as_mut().poll(cx)
            {
                moved = true;
                match (charged, self.asking.take()) {
                    (Ok(receipt), Some((mut asked, _))) => {
                        asked.receipt = receipt;
                        self.begin(*asked);
                    }
                    (Err(over), Some((asked, _))) => self.over_budget(("pictures", over), &asked.reply),
                    (_, None) => {}
                }
            }
            let Some(work) = &mut self.work else { return moved };
            let Poll::Ready(came) = work.poll(cx, &self.seat) else { return moved };
            if work.is_done() {
                self.work = None;
            }
            self.input_at = Instant::now();
            moved = true;
            self.deliver(came);
        }
    }

    fn begin(&mut self, asked: Asked) {
        self.warn(&asked);
        let last = self.last_look.clone();
        self.work.get_or_insert_default().begin(&self.seat, asked, last);
    }

    /// Does what is due, and sets the alarm for what will be.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.leaving.is_none() && self.drain.as_mut().poll(cx).is_ready() {
            self.leave(End::Drained);
        }
        loop {
            let now = Instant::now();
            if let Some((end, until)) = self.leaving {
                let is_done = !self.is_busy() && self.outbox.is_empty() && !self.writing;
                if is_done || until <= now {
                    return Poll::Ready(end);
                }
            }
            let seen = Seen {
                input_at: self.input_at,
                heard_at: self.line().get_ref().heard_at,
                pinged_at: self.pinged_at,
                message_since: self.line().get_ref().meter.message_since,
                is_busy: self.is_busy(),
                is_parked: self.is_parked,
            };
            let next = match due(&self.times, &seen, now) {
                Due::At(next) => next,
                Due::Ping => {
                    self.pinged_at = Some(now);
                    // Whoever takes nothing is given up by the writer's deadline.
                    if !self.writing
                        && let Err(end) =
                            self.send(Message::Ping(bytes::Bytes::new())).and_then(|()| self.poll_write(cx))
                    {
                        return Poll::Ready(end);
                    }
                    continue;
                }
                Due::Park => {
                    self.park();
                    continue;
                }
                // Old age waits for the work in hand; whoever is told once is not told again.
                Due::End(End::Old) if self.leaving.is_none() => {
                    self.leave(End::Old);
                    continue;
                }
                Due::End(End::Old) => now + self.seat.settings().finish(),
                Due::End(end) => return Poll::Ready(end),
            };
            let next = self.leaving.map_or(next, |(_, until)| until.min(next));
            if self.alarm.deadline() > next || self.alarm.is_elapsed() {
                self.alarm.as_mut().reset(next);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn leave(&mut self, end: End) {
        self.leaving = Some((end, Instant::now() + self.seat.settings().finish()));
    }

    /// Lets go of buffers that grew with the messages that passed. Only a line that has nothing in hand can be renewed.
    fn park(&mut self) {
        self.is_parked = true;
        if self.writing || !self.outbox.is_empty() || !self.line().get_ref().meter.is_between_messages() {
            return;
        }
        if let Some(line) = self.line.take() {
            self.line = Some(line::renew(line, self.seat.settings()));
        }
    }

    fn ended_by(&mut self, error: &LineError) -> End {
        if let Some(breach) = self.line().get_ref().breach {
            return End::Breach(breach);
        }
        match error {
            LineError::Utf8(_) => End::Breach(Breach::Text),
            LineError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
            LineError::Protocol(_) | LineError::Capacity(_) | LineError::AttackAttempt => End::Breach(Breach::Protocol),
            LineError::ConnectionClosed | LineError::AlreadyClosed => End::Closed,
            LineError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => End::Stalled,
            LineError::WriteBufferFull(_) => End::Failed,
            _ => End::Lost,
        }
    }
}
