//! What fal's frames mean: its close, its refusal of a token, and its pictures.

use super::End;
use super::end::Breach;
use super::meaning::{Treatment, Watch};
use crate::upstream::socket::control::{begins_like_control, begins_like_failure, is_unauthorized};
use crate::wire::frame::{CloseReason, FrameFault, FrameHeader, Opcode};

/// A refusal of a token is no longer than this.
const SHORT: u64 = 512;
/// So much of a text tells what it is.
const PEEK: usize = 40;

/// Watches fal.
#[derive(Debug)]
pub(super) struct DownWatch {
    is_confirmed: bool,
    current: Opcode,
    pictures: Option<Pictures>,
}

/// Counts results; of a text it looks at the beginning, because some are about the socket.
#[derive(Debug)]
struct Pictures {
    count: u64,
    failures: u64,
    /// Results and failures that were asked for.
    taken: (u64, u64),
    is_peeking: bool,
    peeked: [u8; PEEK],
    len: usize,
}

impl DownWatch {
    /// Watches a socket, one of an endpoint whose results are pictures or another.
    pub(super) fn new(results: Results) -> Self {
        let pictures = match results {
            Results::Pictures => Some(Pictures::default()),
            Results::Other => None,
        };
        Self { is_confirmed: false, current: Opcode::Close, pictures }
    }

    /// Whether fal has said something other than that it takes no input.
    pub(super) const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Watches another socket of fal's.
    pub(super) fn begin_again(&mut self) {
        self.is_confirmed = false;
    }

    /// How many more results and failures have come, where it is known what they are. A text is counted when another message
    /// follows it.
    pub(super) fn take_answers(&mut self) -> (u64, u64) {
        let Some(pictures) = &mut self.pictures else { return (0, 0) };
        let before = std::mem::replace(&mut pictures.taken, (pictures.count, pictures.failures));
        (pictures.count - before.0, pictures.failures - before.1)
    }

    /// How many results have come that are pictures.
    pub(super) fn pictures(&self) -> u64 {
        self.pictures.as_ref().map_or(0, |pictures| pictures.count + pictures.pending())
    }
}

/// What the results of an endpoint are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Results {
    /// Each is a picture.
    Pictures,
    /// Nobody knows.
    Other,
}

impl Default for Pictures {
    fn default() -> Self {
        Self { count: 0, failures: 0, taken: (0, 0), is_peeking: false, peeked: [0; PEEK], len: 0 }
    }
}

impl Pictures {
    fn begins(&mut self, header: &FrameHeader) {
        if header.begins_message() {
            self.failures += u64::from(self.is_peeking && begins_like_failure(&self.peeked[..self.len]));
            self.count += self.pending() + u64::from(header.opcode == Opcode::Binary);
            (self.is_peeking, self.len) = (header.opcode == Opcode::Text, 0);
        }
    }

    fn passes(&mut self, part: &[u8]) {
        let bytes = part.len().min(PEEK - self.len);
        self.peeked[self.len..self.len + bytes].copy_from_slice(&part[..bytes]);
        self.len += bytes;
    }

    /// One for a text that was looked at and is a result.
    fn pending(&self) -> u64 {
        u64::from(self.is_peeking && self.len > 0 && !begins_like_control(&self.peeked[..self.len]))
    }
}

impl Watch for DownWatch {
    fn begins(&mut self, header: &FrameHeader, _raw: &[u8]) -> Treatment {
        self.current = header.opcode;
        if header.opcode == Opcode::Close {
            return Treatment::Take;
        }
        if header.opcode.is_control() {
            return Treatment::Pass;
        }
        if let Some(pictures) = &mut self.pictures {
            pictures.begins(header);
        }
        if !self.is_confirmed && header.opcode == Opcode::Text && header.fin && header.payload_bytes <= SHORT {
            return Treatment::Take;
        }
        self.is_confirmed = true;
        Treatment::Pass
    }

    fn passes(&mut self, part: &[u8]) {
        if let Some(pictures) = self.pictures.as_mut().filter(|_| !self.current.is_control()) {
            pictures.passes(part);
        }
    }

    fn taken(&mut self, header: &FrameHeader, frame: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        let length = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX).min(frame.len());
        let (_, payload) = frame.split_at(frame.len() - length);
        if header.opcode == Opcode::Close {
            let reason = CloseReason::read(payload).map_err(|_| End::UpstreamFault(Breach::Close))?;
            return Err(End::UpstreamClosed(reason));
        }
        if is_unauthorized(payload) {
            return Err(End::Unauthorized);
        }
        self.passes(payload);
        self.is_confirmed = true;
        out.extend_from_slice(frame);
        Ok(())
    }

    fn fault(&self, fault: FrameFault) -> End {
        End::UpstreamFault(fault.into())
    }

    fn sender_lost(&self) -> End {
        End::UpstreamLost
    }

    fn receiver_lost(&self) -> Option<End> {
        Some(End::ClientLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(watch: &mut DownWatch, opcode: Opcode, payload: &[u8]) -> Treatment {
        let header = FrameHeader { opcode, fin: true, mask: None, payload_bytes: payload.len() as u64 };
        let treatment = watch.begins(&header, &[]);
        match treatment {
            Treatment::Pass => payload.chunks(7).for_each(|part| watch.passes(part)),
            Treatment::Skip => panic!("nothing of fal's is skipped"),
            Treatment::Take => drop(watch.taken(&header, payload, &mut Vec::new())),
        }
        treatment
    }

    #[test]
    fn results_are_counted_and_what_is_about_the_socket_is_not() {
        let mut watch = DownWatch::new(Results::Pictures);
        see(&mut watch, Opcode::Text, br#"{"type": "x-fal-message", "action": "timings", "timing": 0.1}"#);
        assert_eq!(watch.pictures(), 0);
        see(&mut watch, Opcode::Binary, &[0x80; 100]);
        see(&mut watch, Opcode::Ping, b"");
        see(&mut watch, Opcode::Text, br#"{"images": [{"url": "data:image/jpeg;base64,AAAA"}]}"#);
        see(&mut watch, Opcode::Text, br#"{"type":"x-fal-error","error":"TIMEOUT","reason":"no inputs"}"#);
        see(&mut watch, Opcode::Text, br#"{"images":[]}"#);
        assert_eq!(watch.pictures(), 3);
        assert_eq!(
            (watch.take_answers(), watch.take_answers()),
            ((2, 1), (0, 0)),
            "the last one may still be under way"
        );
    }

    #[test]
    fn only_the_first_word_is_held_back() {
        let mut watch = DownWatch::new(Results::Other);
        assert_eq!(see(&mut watch, Opcode::Ping, b""), Treatment::Pass);
        assert!(!watch.is_confirmed());
        assert_eq!(see(&mut watch, Opcode::Text, b"{}"), Treatment::Take);
        assert!(watch.is_confirmed());
        assert_eq!(see(&mut watch, Opcode::Text, b"{}"), Treatment::Pass);
    }
}
