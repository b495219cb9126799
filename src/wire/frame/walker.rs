//! Follows one direction of a socket, header by header.

use super::{FrameFault, FrameHeader, FrameSender};

/// What one direction may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Bytes of one frame's payload.
    pub frame_bytes: u64,
    /// Bytes of one message, over all of its frames.
    pub message_bytes: u64,
    /// Frames of one message.
    pub fragments: u32,
}

/// What comes next in a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameEvent {
    /// A frame begins; its header is whole.
    Header(FrameHeader),
    /// So many bytes of its payload.
    Payload(usize),
    /// It ends.
    End(FrameHeader),
}

/// One event, and how many bytes at the front make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes that the event is made of: all of a header, a part of a payload, none for an end.
    pub bytes: usize,
    /// What they are.
    pub event: FrameEvent,
}

/// Follows one direction of a socket without touching its payloads. It holds no bytes: those of a header that is not whole
/// stay with the caller.
#[derive(Debug)]
pub struct FrameWalker {
    sender: FrameSender,
    limits: FrameLimits,
    current: Option<(FrameHeader, u64)>,
    message: Option<Message>,
    fault: Option<FrameFault>,
}

/// A message whose last frame has not come.
#[derive(Debug, Clone, Copy)]
struct Message {
    bytes: u64,
    fragments: u32,
}

impl FrameWalker {
    /// Starts before the first frame.
    #[must_use]
    pub const fn new(sender: FrameSender, limits: FrameLimits) -> Self {
        Self { sender, limits, current: None, message: None, fault: None }
    }

    /// Says what is at the front of `bytes`, which start at the first byte that no earlier step was made of. `None` when
    /// more bytes are needed. Ask again until then: an end needs no byte of its own.
    ///
    /// # Errors
    /// [`FrameFault`]; from then on always the same one. No byte of the frame at fault belonged to a step.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Option<Step>, FrameFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some((header, left)) = &mut self.current else {
            let Some((header, length)) = FrameHeader::read(bytes, self.sender).map_err(|fault| self.fail(fault))?
            else {
                return Ok(None);
            };
            self.begin(&header).map_err(|fault| self.fail(fault))?;
            self.current = Some((header, header.payload_bytes));
            return Ok(Some(Step { bytes: length, event: FrameEvent::Header(header) }));
        };
        if *left == 0 {
            let header = *header;
            self.current = None;
            if header.ends_message() {
                self.message = None;
            }
            return Ok(Some(Step { bytes: 0, event: FrameEvent::End(header) }));
        }
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        if here == 0 {
            return Ok(None);
        }
        *left -= here as u64;
        Ok(Some(Step { bytes: here, event: FrameEvent::Payload(here) }))
    }

    /// Whether a frame of somebody else's may come next.
    #[must_use]
    pub const fn is_between_frames(&self) -> bool {
        self.current.is_none()
    }

    /// Whether a message of somebody else's may come next.
    #[must_use]
    pub const fn is_between_messages(&self) -> bool {
        self.current.is_none() && self.message.is_none()
    }

    /// Whether a message has begun and has not ended; a ping between two of its frames does not change that.
    #[must_use]
    pub const fn is_within_message(&self) -> bool {
        self.message.is_some()
    }

    fn begin(&mut self, header: &FrameHeader) -> Result<(), FrameFault> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let before = match (header.begins_message(), self.message) {
            (true, None) => Message { bytes: 0, fragments: 0 },
            (false, Some(message)) => message,
            (true, Some(_)) | (false, None) => return Err(FrameFault::Order),
        };
        if header.payload_bytes > self.limits.frame_bytes {
            return Err(FrameFault::FrameTooLarge { limit: self.limits.frame_bytes });
        }
        let message = Message {
            bytes: before.bytes.saturating_add(header.payload_bytes),
            fragments: before.fragments.saturating_add(1),
        };
        if message.bytes > self.limits.message_bytes {
            return Err(FrameFault::MessageTooLarge { limit: self.limits.message_bytes });
        }
        if message.fragments > self.limits.fragments {
            return Err(FrameFault::Fragments { limit: self.limits.fragments });
        }
        self.message = Some(message);
        Ok(())
    }

    fn fail(&mut self, fault: FrameFault) -> FrameFault {
        self.fault = Some(fault);
        fault
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Opcode, write_frame};
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { frame_bytes: 300, message_bytes: 500, fragments: 3 };

    /// All events of a direction that comes in these pieces, with neighbouring payloads as one.
    fn events(sender: FrameSender, pieces: &[&[u8]]) -> (Vec<FrameEvent>, Option<FrameFault>) {
        let mut walker = FrameWalker::new(sender, LIMITS);
        let (mut events, mut kept): (Vec<FrameEvent>, Vec<u8>) = (Vec::new(), Vec::new());
        for piece in pieces {
            kept.extend_from_slice(piece);
            let mut at = 0;
            loop {
                match walker.step(&kept[at..]) {
                    Ok(Some(step)) => {
                        at += step.bytes;
                        match (events.last_mut(), step.event) {
                            (Some(FrameEvent::Payload(sum)), FrameEvent::Payload(more)) => *sum += more,
                            (_, event) => events.push(event),
                        }
                    }
                    Ok(None) => break,
                    Err(fault) => return (events, Some(fault)),
                }
            }
            kept.drain(..at);
            assert!(kept.len() < FrameHeader::MAX_BYTES, "only a header may be kept");
        }
        (events, None)
    }

    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_frame(&mut out, opcode, payload, None);
        out
    }

    fn part(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(opcode, payload);
        out[0] &= 0x7F;
        out
    }

    fn fault(frames: &[Vec<u8>]) -> Option<FrameFault> {
        events(FrameSender::Server, &[&frames.concat()]).1
    }

    #[test]
    fn control_frames_may_stand_between_the_parts_of_a_message() {
        let frames = [
            part(Opcode::Text, b"a"),
            frame(Opcode::Ping, b"alive?"),
            part(Opcode::Continuation, b""),
            frame(Opcode::Continuation, b"b"),
            frame(Opcode::Binary, b""),
        ];
        assert_eq!(fault(&frames), None);
        let mut walker = FrameWalker::new(FrameSender::Server, LIMITS);
        let first = &frames[0];
        assert!(walker.is_between_messages());
        walker.step(first).unwrap();
        assert!(!walker.is_between_frames());
        walker.step(&first[2..]).unwrap();
        walker.step(&[]).unwrap();
        assert!(walker.is_between_frames() && !walker.is_between_messages());
    }

    #[test]
    fn messages_follow_one_another() {
        assert_eq!(fault(&[frame(Opcode::Continuation, b"")]), Some(FrameFault::Order));
        assert_eq!(fault(&[part(Opcode::Text, b""), frame(Opcode::Text, b"")]), Some(FrameFault::Order));
        assert_eq!(fault(&[frame(Opcode::Text, b""), frame(Opcode::Continuation, b"")]), Some(FrameFault::Order));
    }

    #[test]
    fn frames_messages_and_parts_are_limited() {
        let bytes = |count| vec![0; count];
        assert_eq!(fault(&[frame(Opcode::Binary, &bytes(300))]), None);
        assert_eq!(fault(&[frame(Opcode::Binary, &bytes(301))]), Some(FrameFault::FrameTooLarge { limit: 300 }));
        let long = [part(Opcode::Binary, &bytes(300)), frame(Opcode::Continuation, &bytes(201))];
        assert_eq!(fault(&long), Some(FrameFault::MessageTooLarge { limit: 500 }));
        let mut parts = vec![part(Opcode::Binary, b"")];
        parts.extend((0..3).map(|_| part(Opcode::Continuation, b"")));
        assert_eq!(fault(&parts), Some(FrameFault::Fragments { limit: 3 }));
        let huge = [0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(events(FrameSender::Server, &[&huge]).1, Some(FrameFault::FrameTooLarge { limit: 300 }));
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop::sample::select(vec![
            Opcode::Continuation,
            Opcode::Text,
            Opcode::Binary,
            Opcode::Ping,
            Opcode::Pong,
            Opcode::Close,
        ]);
        (opcode, prop::collection::vec(any::<u8>(), 0..310), any::<Option<[u8; 4]>>(), 0..8_u8).prop_map(
            |(opcode, payload, mask, fin)| {
                let mut out = Vec::new();
                write_frame(&mut out, opcode, &payload, mask);
                if fin == 0 {
                    out[0] &= 0x7F;
                }
                out
            },
        )
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_events(
            frames in prop::collection::vec(any_frame(), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            is_client: bool,
        ) {
            let sender = if is_client { FrameSender::Client } else { FrameSender::Server };
            let whole = [frames.concat(), noise].concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(sender, &pieces), events(sender, &[&whole]));
            let bytes: Vec<&[u8]> = whole.chunks(1).collect();
            prop_assert_eq!(events(sender, &bytes), events(sender, &[&whole]));
        }

        #[test]
        fn what_is_written_is_what_is_read(payload in prop::collection::vec(any::<u8>(), 0..300), mask: Option<[u8; 4]>) {
            let mut out = Vec::new();
            write_frame(&mut out, Opcode::Binary, &payload, mask);
            let sender = if mask.is_some() { FrameSender::Client } else { FrameSender::Server };
            let (header, length) = FrameHeader::read(&out, sender).unwrap().unwrap();
            prop_assert_eq!((header.payload_bytes, header.mask, header.fin), (payload.len() as u64, mask, true));
            let mut sent = out[length..].to_vec();
            super::super::apply_mask(&mut sent, mask.unwrap_or_default(), 0);
            prop_assert_eq!(sent, payload);
        }
    }
}
