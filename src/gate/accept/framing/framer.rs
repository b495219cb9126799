//! Heads and bodies in a row: how much of what arrived may be handed on.

use super::{BodyKind, ChunkFault, ChunkScanner, Head, HeadFault, HeadLimits, HeadScanner};

/// Why the bytes cannot be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The head is refused; it can still be answered.
    #[error(transparent)]
    Head(#[from] HeadFault),
    /// The body broke; nothing after it can be trusted.
    #[error(transparent)]
    Body(#[from] ChunkFault),
}

/// What [`Framer::admit`] let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// So many bytes may be handed on; none of them belongs to a later message.
    pub bytes: usize,
    /// The head that ended among them.
    pub head: Option<Head>,
}

/// Where the framer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before or in a head.
    Head,
    /// In a body.
    Body,
    /// After a WebSocket handshake, until it is answered.
    Held,
    /// After an upgrade: bytes pass as they come.
    Tunnel,
    /// After a fault: nothing passes.
    Broken,
}

#[derive(Debug)]
enum State {
    Head(HeadScanner),
    Length(u64),
    Chunked(ChunkScanner),
    Held,
    Tunnel,
    Broken(Fault),
}

/// Follows one connection, message by message.
#[derive(Debug)]
pub struct Framer {
    limits: HeadLimits,
    state: State,
}

impl Framer {
    /// Starts before the first head.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head(HeadScanner::default()) }
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match &self.state {
            State::Head(_) => Phase::Head,
            State::Length(_) | State::Chunked(_) => Phase::Body,
            State::Held => Phase::Held,
            State::Tunnel => Phase::Tunnel,
            State::Broken(_) => Phase::Broken,
        }
    }

    /// Says how many of `bytes` may be handed on. `bytes` starts at the first byte that was not handed on yet.
    ///
    /// Nothing of a head is handed on before all of it is there, and nothing of the next message with this one.
    ///
    /// # Errors
    /// [`Fault`]; from then on always the same one.
    pub fn admit(&mut self, bytes: &[u8]) -> Result<Taken, Fault> {
        match &mut self.state {
            State::Head(scanner) => match scanner.scan(bytes, &self.limits) {
                Ok(None) => Ok(Taken { bytes: 0, head: None }),
                Ok(Some(head)) => Ok(self.begin(head, bytes)),
                Err(fault) => self.fail(fault.into()),
            },
            State::Length(_) | State::Chunked(_) => match self.body(bytes) {
                Ok(taken) => Ok(Taken { bytes: taken, head: None }),
                Err(fault) => self.fail(fault.into()),
            },
            State::Held => Ok(Taken { bytes: 0, head: None }),
            State::Tunnel => Ok(Taken { bytes: bytes.len(), head: None }),
            State::Broken(fault) => Err(*fault),
        }
    }

    fn begin(&mut self, head: Head, bytes: &[u8]) -> Taken {
        self.state = match head.body {
            _ if head.upgrade => State::Held,
            BodyKind::None => State::Head(HeadScanner::default()),
            BodyKind::Length(length) => State::Length(length),
            BodyKind::Chunked => State::Chunked(ChunkScanner::default()),
        };
        let mut taken = head.len;
        if self.phase() == Phase::Body {
            match self.body(&bytes[head.len..]) {
                Ok(body) => taken += body,
                // The head is sound and goes on alone; the next call reports the body.
                Err(fault) => self.state = State::Broken(fault.into()),
            }
        }
        Taken { bytes: taken, head: Some(head) }
    }

    fn body(&mut self, bytes: &[u8]) -> Result<usize, ChunkFault> {
        let end = match &mut self.state {
            State::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                (*left == 0).then_some(here)
            }
            State::Chunked(scanner) => scanner.scan(bytes)?,
            State::Head(_) | State::Held | State::Tunnel | State::Broken(_) => Some(0),
        };
        if end.is_some() {
            self.state = State::Head(HeadScanner::default());
        }
        Ok(end.unwrap_or(bytes.len()))
    }

    fn fail(&mut self, fault: Fault) -> Result<Taken, Fault> {
        self.state = State::Broken(fault);
        Err(fault)
    }

    /// Answers a held handshake: the bytes that follow are the new protocol's.
    pub fn open_tunnel(&mut self) {
        self.state = State::Tunnel;
    }

    /// Answers a held handshake: there is no new protocol, the next head follows.
    pub fn stay_http(&mut self) {
        self.state = State::Head(HeadScanner::default());
    }

    /// Ends the connection's reading with a fault that is not in the bytes.
    pub fn break_off(&mut self, fault: HeadFault) {
        self.state = State::Broken(fault.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, target_bytes: 256, fields: 10 };

    #[test]
    fn one_message_is_handed_on_at_a_time() {
        let text = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nokTRACE / HTTP/1.1\r\n\r\n";
        let mut framer = Framer::new(LIMITS);
        let first = framer.admit(text).unwrap();
        assert_eq!(&text[first.bytes..first.bytes + 5], b"TRACE");
        assert_eq!(framer.admit(&text[first.bytes..]), Err(Fault::Head(HeadFault::Method)));
        assert_eq!(framer.admit(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"), Err(Fault::Head(HeadFault::Method)));
    }

    #[test]
    fn a_sound_head_goes_on_before_its_broken_body_is_reported() {
        let text = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\n";
        let mut framer = Framer::new(LIMITS);
        assert_eq!(framer.admit(text).unwrap().bytes, text.len() - 5);
        assert_eq!(framer.admit(b"5;x\r\n"), Err(Fault::Body(ChunkFault::Size)));
    }

    #[test]
    fn bytes_behind_a_handshake_wait_for_its_answer() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nGET /smuggled";
        let mut framer = Framer::new(LIMITS);
        let taken = framer.admit(text).unwrap();
        let rest = &text[taken.bytes..];
        assert_eq!(framer.admit(rest), Ok(Taken { bytes: 0, head: None }));
        framer.stay_http();
        assert_eq!(framer.admit(rest), Ok(Taken { bytes: 0, head: None }));
        framer.open_tunnel();
        assert_eq!(framer.admit(rest).unwrap().bytes, rest.len());
    }
}
