//! One direction of a tunnel: reads, follows the frames, and writes what may go on, as far as the other side takes it.

mod words;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::End;
use super::meaning::{Stop, Treatment, Watch};
use super::pool::{BufferPool, Piece};
use super::rate::Rates;
use crate::upstream::socket::metrics::{DirectionMetrics, Tally};
use crate::wire::frame::{FrameEvent, FrameHeader, FrameLimits, FrameSender, FrameWalker};

/// The bytes of a header that is not whole.
#[derive(Debug, Default)]
struct Partial {
    bytes: [u8; FrameHeader::MAX_BYTES],
    len: usize,
}

/// One direction of a tunnel. Quiet, it holds no buffer.
#[derive(Debug)]
pub(super) struct Direction {
    walker: FrameWalker,
    treatment: Treatment,
    /// The frame that is taken.
    held: Vec<u8>,
    partial: Partial,
    piece: Option<Piece>,
    /// Goes on before anything of the piece.
    out: Vec<u8>,
    out_at: usize,
    /// Goes on between two messages.
    between: Vec<u8>,
    stop: Stop,
    unflushed: bool,
    receiver_lost: bool,
    /// Since when the receiver has taken nothing.
    stalled_since: Option<Instant>,
    rates: Option<Box<Rates>>,
    tally: Tally,
    metrics: DirectionMetrics,
}

impl Direction {
    pub(super) fn new(sender: FrameSender, limits: FrameLimits, metrics: DirectionMetrics) -> Self {
        Self {
            walker: FrameWalker::new(sender, limits),
            treatment: Treatment::Pass,
            held: Vec::new(),
            partial: Partial::default(),
            piece: None,
            out: Vec::new(),
            out_at: 0,
            between: Vec::new(),
            stop: Stop::Never,
            unflushed: false,
            receiver_lost: false,
            stalled_since: None,
            rates: None,
            tally: Tally::default(),
            metrics,
        }
    }

    /// Reads the sender no faster than this.
    pub(super) fn with_rates(mut self, rates: Rates) -> Self {
        self.rates = Some(Box::new(rates));
        self
    }

    /// Moves bytes until a side makes it wait. Ready when the socket ends, or where it was asked to stop.
    pub(super) fn pump<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        (reader, writer): (&mut R, &mut W),
        (watch, pool): (&mut impl Watch, &BufferPool),
    ) -> Poll<End>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.receiver_lost {
                return Poll::Pending;
            }
            if ready!(self.poll_out(cx, writer)).is_err() {
                return self.lose_receiver(watch);
            }
            if self.walker.is_between_messages() && !self.between.is_empty() {
                self.out.append(&mut self.between);
                continue;
            }
            if self.is_stopped() {
                return match ready!(self.poll_flushed(cx, writer)) {
                    Ok(()) => Poll::Ready(End::Stopped),
                    Err(_) => self.lose_receiver(watch),
                };
            }
            match self.walk(watch) {
                Ok(Walked::Some) => continue,
                Ok(Walked::Nothing) => {}
                Err(end) => return Poll::Ready(end),
            }
            match self.poll_in(cx, reader, pool) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(watch.sender_lost()),
                Poll::Pending => {
                    return match ready!(self.poll_flushed(cx, writer)) {
                        Ok(()) => Poll::Pending,
                        Err(_) => self.lose_receiver(watch),
                    };
                }
            }
        }
    }

    /// Writes all that may go on.
    pub(super) fn poll_out<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            let written = Pin::new(&mut *writer).poll_write(cx, &self.out[self.out_at..]);
            self.out_at += ready!(self.note_written(written))?;
        }
        if !self.out.is_empty() {
            (self.out, self.out_at) = (Vec::new(), 0);
        }
        while let Some(piece) = self.piece.as_ref().filter(|piece| piece.sent < piece.ready) {
            let written = Pin::new(&mut *writer).poll_write(cx, &piece.bytes[piece.sent..piece.ready]);
            let written = ready!(self.note_written(written))?;
            if let Some(piece) = &mut self.piece {
                piece.sent += written;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Makes sure that what was written leaves this machine, where the writer keeps it in records of its own.
    pub(super) fn poll_flushed<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn note_written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(written) => {
                self.stalled_since = None;
                self.unflushed = true;
                Poll::Ready(written)
            }
            Poll::Pending => {
                self.stalled_since.get_or_insert_with(Instant::now);
                Poll::Pending
            }
        }
    }

    fn lose_receiver(&mut self, watch: &impl Watch) -> Poll<End> {
        self.receiver_lost = true;
        self.stalled_since = None;
        watch.receiver_lost().map_or(Poll::Pending, Poll::Ready)
    }

    /// Reads more. False at the end of the stream.
    fn poll_in<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        pool: &BufferPool,
    ) -> Poll<io::Result<bool>> {
        let now = self.rates.as_ref().map(|_| Instant::now());
        if let (Some(rates), Some(now)) = (&self.rates, now)
            && rates.closed_until(now).is_some()
        {
            self.put_aside();
            return Poll::Pending;
        }
        if self.piece.as_ref().is_some_and(Piece::is_loose) {
            self.put_aside();
        }
        let piece = match &mut self.piece {
            Some(piece) => {
                piece.bytes.copy_within(piece.walked..piece.len, 0);
                (piece.sent, piece.ready, piece.len, piece.walked) = (0, 0, piece.len - piece.walked, 0);
                piece
            }
            None => {
                let piece = self.piece.insert(pool.take());
                piece.len = self.partial.len;
                piece.bytes[..piece.len].copy_from_slice(&self.partial.bytes[..piece.len]);
                piece
            }
        };
        let mut room = ReadBuf::new(&mut piece.bytes[piece.len..]);
        match Pin::new(reader).poll_read(cx, &mut room) {
            Poll::Ready(Ok(())) => {
                let bytes = room.filled().len();
                piece.len += bytes;
                self.tally.bytes += bytes as u64;
                self.metrics.bytes(bytes as u64);
                if let (Some(rates), Some(now)) = (&mut self.rates, now) {
                    rates.bytes.take(bytes as u64, now);
                }
                Poll::Ready(Ok(bytes > 0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.put_aside();
                Poll::Pending
            }
        }
    }

    /// Gives the buffer back, now that it holds no more than a part of a header.
    fn put_aside(&mut self) {
        if let Some(piece) = self.piece.take() {
            let rest = &piece.bytes[piece.walked..piece.len];
            self.partial.len = rest.len().min(FrameHeader::MAX_BYTES);
            self.partial.bytes[..self.partial.len].copy_from_slice(&rest[..self.partial.len]);
        }
    }

    /// Looks at what was read. All that could go on has been written.
    fn walk(&mut self, watch: &mut impl Watch) -> Result<Walked, End> {
        let Some(piece) = &mut self.piece else { return Ok(Walked::Nothing) };
        (piece.sent, piece.ready) = (piece.walked, piece.walked);
        let mut frames = 0;
        let walked = loop {
            let rest = &piece.bytes[piece.walked..piece.len];
            let step = match self.walker.step(rest) {
                Ok(Some(step)) => step,
                Ok(None) => break Ok(()),
                Err(fault) => break Err(watch.fault(fault)),
            };
            let part = &rest[..step.bytes];
            piece.walked += step.bytes;
            match step.event {
                FrameEvent::Header(header) => {
                    frames += 1;
                    self.tally.begins(&header);
                    self.treatment = watch.begins(&header, part);
                    if self.treatment == Treatment::Take {
                        self.held.extend_from_slice(part);
                    }
                }
                FrameEvent::Payload(_) => match self.treatment {
                    Treatment::Pass | Treatment::Read => watch.passes(part),
                    Treatment::Take => self.held.extend_from_slice(part),
                    Treatment::Skip => {}
                },
                FrameEvent::End(header) if matches!(self.treatment, Treatment::Take | Treatment::Read) => {
                    let held = std::mem::take(&mut self.held);
                    self.treatment = Treatment::Pass;
                    if let Err(end) = watch.taken(&header, &held, &mut self.out) {
                        break Err(end);
                    }
                    (piece.sent, piece.ready) = (piece.walked, piece.walked);
                }
                FrameEvent::End(_) => {}
            }
            match self.treatment {
                Treatment::Pass => piece.ready = piece.walked,
                // What passes before it goes out first.
                _ if piece.sent < piece.ready => break Ok(()),
                Treatment::Take | Treatment::Read | Treatment::Skip => {
                    (piece.sent, piece.ready) = (piece.walked, piece.walked);
                }
            }
            let wanted = !self.between.is_empty() || self.stop != Stop::Never;
            if wanted && self.walker.is_between_frames() {
                break Ok(());
            }
        };
        self.metrics.frames(frames);
        if let Some(rates) = self.rates.as_mut().filter(|_| frames > 0) {
            rates.frames.take(frames, Instant::now());
        }
        walked?;
        let moved = piece.sent < piece.ready || !self.out.is_empty() || piece.walked < piece.len && frames > 0;
        Ok(if moved { Walked::Some } else { Walked::Nothing })
    }
}

/// Whether a walk has led anywhere.
enum Walked {
    Some,
    Nothing,
}
