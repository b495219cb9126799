//! What comes in on a socket, frame by frame: counted, held to limits, its memory taken from the budget. No I/O.

use tokio::time::Instant;

use super::pace::Pace;
use super::settings::RealtimeSettings;
use crate::wire::frame::{
    FrameEvent, FrameFault, FrameHeader, FrameLimits, FrameSender, FrameWalker, Opcode, close_code,
};
use crate::wire::{MemoryBudget, Reserved};

/// Shorter messages are not charged to the memory budget: a connection's own buffers hold as much.
const FREE_BYTES: u64 = 4096;
/// Try again later (IANA).
const TRY_AGAIN: u16 = 1013;
/// Data that does not fit its type (RFC 6455, 7.4.1).
const INVALID: u16 = 1007;

/// Why a socket is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// What came is no frame that may come.
    #[error(transparent)]
    Frame(#[from] FrameFault),
    /// Too many frames.
    #[error("too many frames a second")]
    Frames,
    /// Too many bytes.
    #[error("too many bytes a second")]
    Bytes,
    /// The messages of all callers fill their memory.
    #[error("too many large messages are under way, try again")]
    Memory,
    /// A message that does not come to its end.
    #[error("a message took longer than it may")]
    Slow,
    /// A text that is none.
    #[error("a text message is not UTF-8")]
    Text,
    /// A close frame, or something else that the protocol does not know.
    #[error("a frame is malformed")]
    Protocol,
}

impl Breach {
    pub(super) const fn close_code(self) -> u16 {
        match self {
            Self::Frame(fault) => fault.close_code(),
            Self::Frames | Self::Bytes | Self::Slow => close_code::POLICY,
            Self::Memory => TRY_AGAIN,
            Self::Text => INVALID,
            Self::Protocol => close_code::PROTOCOL,
        }
    }

    /// The word for an error frame.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Frames | Self::Bytes | Self::Memory => "RATE_LIMITED",
            Self::Slow => "TOO_SLOW",
            Self::Frame(FrameFault::FrameTooLarge { .. } | FrameFault::MessageTooLarge { .. }) => "TOO_LARGE",
            Self::Frame(_) | Self::Text | Self::Protocol => "PROTOCOL_ERROR",
        }
    }
}

/// Follows what a page sends.
#[derive(Debug)]
pub(super) struct Meter {
    walker: FrameWalker,
    /// The beginning of a header whose rest has not come.
    held: [u8; FrameHeader::MAX_BYTES],
    held_bytes: usize,
    frames: Pace,
    bytes: Pace,
    memory: MemoryBudget,
    reserved: Option<Reserved>,
    /// The frame that comes belongs to a message, and is no ping.
    is_data: bool,
    /// What the message that comes has announced, and what of it has come.
    announced: u64,
    arrived: u64,
    /// Since when a message is on its way.
    pub(super) message_since: Option<Instant>,
    /// Frames so far.
    pub(super) seen: u64,
    /// The page has sent its last frame.
    pub(super) closed: bool,
}

impl Meter {
    pub(super) fn new(settings: &RealtimeSettings, memory: MemoryBudget, now: Instant) -> Self {
        let limits = FrameLimits {
            frame_bytes: settings.message_bytes.get().into(),
            message_bytes: settings.message_bytes.get().into(),
            fragments: settings.fragments.get(),
        };
        Self {
            walker: FrameWalker::new(FrameSender::Client, limits),
            held: [0; FrameHeader::MAX_BYTES],
            held_bytes: 0,
            frames: Pace::new(settings.frames_per_s.get().into(), settings.frames_burst.get().into(), now),
            bytes: Pace::new(settings.bytes_per_s.get(), settings.bytes_burst.get(), now),
            memory,
            reserved: None,
            is_data: false,
            announced: 0,
            arrived: 0,
            message_since: None,
            seen: 0,
            closed: false,
        }
    }

    /// Whether all that came so far were whole messages.
    pub(super) const fn is_between_messages(&self) -> bool {
        self.held_bytes == 0 && self.walker.is_between_messages()
    }

    /// Gives away the memory of a message of `bytes` that has arrived.
    pub(super) fn hand_over(&mut self, bytes: usize) -> Option<Reserved> {
        let charged = charged_for(bytes as u64);
        self.reserved.as_mut().filter(|_| charged > 0).map(|reserved| reserved.split(charged))
    }

    /// Follows the next bytes.
    pub(super) fn follow(&mut self, bytes: &[u8], now: Instant) -> Result<(), Breach> {
        self.walk(bytes, now)?;
        self.message_since = self.message_since.or(Some(now)).filter(|_| !self.is_between_messages());
        Ok(())
    }

    fn walk(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Breach> {
        if !self.bytes.take(bytes.len() as u64, now) {
            return Err(Breach::Bytes);
        }
        loop {
            let event = if self.held_bytes > 0 {
                let before = self.held_bytes;
                let more = bytes.len().min(self.held.len() - before);
                self.held[before..before + more].copy_from_slice(&bytes[..more]);
                self.held_bytes += more;
                let Some(step) = self.walker.step(&self.held[..self.held_bytes])? else { return Ok(()) };
                self.held_bytes = 0;
                bytes = &bytes[step.bytes - before..];
                step.event
            } else {
                let Some(step) = self.walker.step(bytes)? else {
                    self.held[..bytes.len()].copy_from_slice(bytes);
                    self.held_bytes = bytes.len();
                    return Ok(());
                };
                bytes = &bytes[step.bytes..];
                step.event
            };
            match event {
                FrameEvent::Header(header) => self.begins(&header, now)?,
                FrameEvent::Payload(bytes) => self.comes(bytes as u64)?,
                FrameEvent::End(header) => self.closed |= header.opcode == Opcode::Close,
            }
        }
    }

    fn begins(&mut self, header: &FrameHeader, now: Instant) -> Result<(), Breach> {
        self.seen += 1;
        if !self.frames.take(1, now) {
            return Err(Breach::Frames);
        }
        self.is_data = !header.opcode.is_control();
        if !self.is_data {
            return Ok(());
        }
        if header.begins_message() {
            (self.announced, self.arrived) = (0, 0);
        }
        self.announced += header.payload_bytes;
        // What cannot fit is refused at once, but nobody is kept out by what somebody only announces.
        let missing = charged_for(self.announced).saturating_sub(charged_for(self.arrived));
        if missing > self.memory.free() { Err(Breach::Memory) } else { Ok(()) }
    }

    /// Takes memory for bytes of a message that came.
    fn comes(&mut self, bytes: u64) -> Result<(), Breach> {
        if !self.is_data {
            return Ok(());
        }
        let before = charged_for(self.arrived);
        self.arrived += bytes;
        let more = charged_for(self.arrived) - before;
        if more > 0 {
            let more = self.memory.reserve(more).ok_or(Breach::Memory)?;
            match &mut self.reserved {
                Some(reserved) => reserved.merge(more),
                reserved => *reserved = Some(more),
            }
        }
        Ok(())
    }
}

/// What a message of so many bytes is charged to the memory of all.
const fn charged_for(bytes: u64) -> u64 {
    if bytes <= FREE_BYTES { 0 } else { bytes }
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU32, NonZeroU64};

    use crate::wire::frame::write_frame;

    use super::*;

    const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, opcode, payload, MASK);
        out
    }

    fn part(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(opcode, payload);
        out[0] &= 0x7F;
        out
    }

    fn meter(change: impl FnOnce(&mut RealtimeSettings)) -> (Meter, Instant) {
        let mut settings = RealtimeSettings::default();
        change(&mut settings);
        let now = Instant::now();
        (Meter::new(&settings, MemoryBudget::new(64 * 1024), now), now)
    }

    #[test]
    fn frames_in_any_pieces_are_followed() {
        let bytes = [frame(Opcode::Binary, &[7; 300]), frame(Opcode::Ping, b"a"), frame(Opcode::Close, b"")].concat();
        for piece in 1..bytes.len() {
            let (mut meter, now) = meter(|_| ());
            for bytes in bytes.chunks(piece) {
                meter.follow(bytes, now).unwrap();
            }
            assert_eq!((meter.seen, meter.closed, meter.is_between_messages()), (3, true, true), "{piece}");
        }
    }

    #[test]
    fn endless_fragments_are_cut_off() {
        let (mut meter, now) = meter(|settings| settings.fragments = NonZeroU32::new(8).unwrap());
        meter.follow(&part(Opcode::Text, b""), now).unwrap();
        let empty = part(Opcode::Continuation, b"");
        let passed = (0..100).take_while(|_| meter.follow(&empty, now).is_ok()).count();
        assert_eq!(passed, 7);
        assert_eq!(meter.follow(&empty, now), Err(Breach::Frame(FrameFault::Fragments { limit: 8 })));
    }

    #[test]
    fn floods_of_pings_and_tiny_frames_are_cut_off() {
        for opcode in [Opcode::Ping, Opcode::Text, Opcode::Pong] {
            let (mut meter, now) = meter(|settings| settings.frames_burst = NonZeroU32::new(50).unwrap());
            let tiny = frame(opcode, b"");
            let passed = (0..1000).take_while(|_| meter.follow(&tiny, now).is_ok()).count();
            assert_eq!(passed, 50);
            assert_eq!(Breach::Frames.close_code(), 1008);
        }
    }

    #[test]
    fn more_bytes_than_allowed_are_cut_off() {
        let (mut meter, now) = meter(|settings| settings.bytes_burst = NonZeroU64::new(1000).unwrap());
        let bytes = frame(Opcode::Binary, &[0; 400]);
        assert!(meter.follow(&bytes, now).is_ok() && meter.follow(&bytes, now).is_ok());
        assert_eq!(meter.follow(&bytes, now), Err(Breach::Bytes));
    }

    #[test]
    fn large_messages_take_their_memory_from_the_budget_of_all() {
        let (mut meter, now) = meter(|_| ());
        let memory = meter.memory.clone();
        meter.follow(&frame(Opcode::Text, &[b'a'; 4000]), now).unwrap();
        assert!(meter.hand_over(4000).is_none(), "small ones are free");
        meter.follow(&part(Opcode::Binary, &[0; 20_000]), now).unwrap();
        meter.follow(&frame(Opcode::Continuation, &[0; 20_000]), now).unwrap();
        assert!(memory.reserve(30 * 1024).is_none());
        let held = meter.hand_over(40_000);
        assert!(held.is_some() && memory.reserve(30 * 1024).is_none());
        drop(held);
        assert!(memory.reserve(64 * 1024).is_some());
        // Only the header has to come for the refusal.
        let large = frame(Opcode::Binary, &[0; 70_000]);
        assert_eq!(meter.follow(&large[..14], now), Err(Breach::Memory));
    }

    #[test]
    fn whoever_announces_much_and_sends_little_keeps_nobody_out() {
        let (mut meter, now) = meter(|_| ());
        let memory = meter.memory.clone();
        let large = frame(Opcode::Binary, &[0; 60_000]);
        meter.follow(&large[..14], now).unwrap();
        assert_eq!(memory.free(), 64 * 1024);
        meter.follow(&large[14..20_000], now).unwrap();
        assert_eq!(memory.free(), 64 * 1024 - (20_000 - 8));
        // A ping between two parts is no part of the message.
        meter.follow(&large[20_000..], now).unwrap();
        meter.follow(&frame(Opcode::Ping, &[0; 100]), now).unwrap();
        assert_eq!(memory.free(), 64 * 1024 - 60_000);
    }

    #[test]
    fn a_message_is_on_its_way_from_its_first_byte_to_its_last() {
        let (mut meter, now) = meter(|_| ());
        let later = now + std::time::Duration::from_secs(1);
        let bytes = [part(Opcode::Binary, &[7; 300]), frame(Opcode::Continuation, &[7; 3])].concat();
        assert_eq!(meter.message_since, None);
        meter.follow(&bytes[..1], now).unwrap();
        meter.follow(&bytes[1..bytes.len() - 1], later).unwrap();
        assert_eq!(meter.message_since, Some(now));
        meter.follow(&bytes[bytes.len() - 1..], later).unwrap();
        assert_eq!(meter.message_since, None);
    }

    #[test]
    fn an_announced_size_over_the_limit_is_1009_before_a_byte_of_it() {
        let (mut meter, now) = meter(|settings| settings.message_bytes = NonZeroU32::new(1000).unwrap());
        let fault = meter.follow(&frame(Opcode::Binary, &[0; 1001])[..8], now).unwrap_err();
        assert_eq!((fault.close_code(), fault.word()), (1009, "TOO_LARGE"));
    }
}
