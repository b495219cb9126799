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
    kind: Results,
    answers: Answers,
}

/// Counts answers; of a text it looks at the beginning, because some are about the socket.
#[derive(Debug)]
struct Answers {
    results: u64,
    failures: u64,
    /// Results and failures that were asked for.
    taken: (u64, u64),
    is_peeking: bool,
    peeked: [u8; PEEK],
    len: usize,
}

impl DownWatch {
    /// Watches a socket, one of an endpoint whose results are pictures or another.
    pub(super) fn new(kind: Results) -> Self {
        Self { is_confirmed: false, current: Opcode::Close, kind, answers: Answers::default() }
    }

    /// What the results are.
    pub(super) const fn kind(&self) -> Results {
        self.kind
    }

    /// Whether fal has said something other than that it takes no input.
    pub(super) const fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// Watches another socket of fal's.
    pub(super) fn begin_again(&mut self) {
        self.is_confirmed = false;
    }

    /// How many more results and failures have come. A text that is the newest message does not count yet: it may be under
    /// way.
    pub(super) fn take_answers(&mut self) -> (u64, u64) {
        self.answers.take((self.answers.results, self.answers.failures))
    }

    /// The same, with the newest message: it is whole.
    pub(super) fn take_all_answers(&mut self) -> (u64, u64) {
        let (results, failures) = self.answers.newest();
        self.answers.take((self.answers.results + results, self.answers.failures + failures))
    }

    /// How many results have come that are pictures.
    pub(super) fn pictures(&self) -> u64 {
        match self.kind {
            Results::Pictures => self.answers.results + self.answers.newest().0,
            Results::Other => 0,
        }
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

impl Default for Answers {
    fn default() -> Self {
        Self { results: 0, failures: 0, taken: (0, 0), is_peeking: false, peeked: [0; PEEK], len: 0 }
    }
}

impl Answers {
    fn begins(&mut self, header: &FrameHeader) {
        if header.begins_message() {
            let (results, failures) = self.newest();
            self.results += results + u64::from(header.opcode == Opcode::Binary);
            self.failures += failures;
            (self.is_peeking, self.len) = (header.opcode == Opcode::Text, 0);
        }
    }

    fn take(&mut self, now: (u64, u64)) -> (u64, u64) {
        let before = self.taken;
        self.taken = (now.0.max(before.0), now.1.max(before.1));
        (self.taken.0 - before.0, self.taken.1 - before.1)
    }

    fn passes(&mut self, part: &[u8]) {
        let bytes = part.len().min(PEEK - self.len);
        self.peeked[self.len..self.len + bytes].copy_from_slice(&part[..bytes]);
        self.len += bytes;
    }

    /// The newest message, if it is a text: whether it is a result, and whether it says that there is none.
    fn newest(&self) -> (u64, u64) {
        let text = &self.peeked[..self.len];
        if !self.is_peeking || text.is_empty() {
            return (0, 0);
        }
        (u64::from(!begins_like_control(text)), u64::from(begins_like_failure(text)))
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
        self.answers.begins(header);
        if !self.is_confirmed && header.opcode == Opcode::Text && header.fin && header.payload_bytes <= SHORT {
            return Treatment::Take;
        }
        self.is_confirmed = true;
        Treatment::Pass
    }

    fn passes(&mut self, part: &[u8]) {
        if !self.current.is_control() {
            self.answers.passes(part);
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
            Treatment::Skip | Treatment::Read => panic!("nothing of fal's is skipped or read"),
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
        assert_eq!(watch.take_answers(), (2, 1), "the last one may still be under way");
        assert_eq!((watch.take_all_answers(), watch.take_all_answers()), ((1, 0), (0, 0)), "it is whole");
        see(&mut watch, Opcode::Ping, b"");
        see(&mut watch, Opcode::Text, br#"{"images":[]}"#);
        assert_eq!(watch.take_answers(), (0, 0), "nothing is counted twice");
        assert_eq!(watch.take_all_answers(), (1, 0));
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
