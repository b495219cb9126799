//! What a client's frames mean: its close, its newest input, and the rules and shares that its inputs are held to.

use super::End;
use super::end::Breach;
use super::held::{Held, NoRoom};
use super::meaning::{Treatment, Watch};
use super::newest::Newest;
use crate::upstream::socket::budget::InputAccount;
use crate::upstream::socket::control::write_error;
use crate::upstream::socket::judge::Judge;
use crate::wire::frame::{CloseReason, FrameFault, FrameHeader, Opcode, apply_mask, write_frame};
use crate::wire::message::wait_sentence;
use crate::wire::{MemoryBudget, Reserved};

/// Beyond so many bytes of refusals that wait to be said, one more is counted and not said.
const ENOUGH: usize = 4 * 1024;
/// What a client hears of an input that could not be held.
const FULL: &str = "too many large messages are under way, try again";

/// Watches the client.
#[derive(Debug)]
pub(super) struct UpWatch {
    newest: Newest,
    judging: Option<Box<Judging>>,
    account: Option<Box<dyn InputAccount>>,
    /// The message under way is more than its client may send: none of it goes on.
    skips: bool,
    refusals: Option<Box<Refusals>>,
    current: Opcode,
    /// What messages that are held are charged to.
    memory: MemoryBudget,
    /// Room of what waits to be written.
    sending: Option<Reserved>,
}

/// What the client has not been told yet.
#[derive(Debug, Default)]
struct Refusals {
    frames: Vec<u8>,
    told: Told,
}

/// What became of inputs since it was last asked.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Told {
    /// Refused.
    pub(super) refused: u64,
    /// Not held, for want of room.
    pub(super) unheld: u64,
}

/// Inputs are read, checked, and written anew.
#[derive(Debug)]
struct Judging {
    judge: Judge,
    opcode: Opcode,
    message: Held,
    mask: [u8; 4],
    /// Bytes of the frame under way that have come.
    came: u64,
}

impl UpWatch {
    /// Watches a client; the messages of its that are held come out of `memory`.
    pub(super) fn new(memory: MemoryBudget) -> Self {
        Self {
            newest: Newest::new(),
            judging: None,
            account: None,
            skips: false,
            refusals: None,
            current: Opcode::Close,
            memory,
            sending: None,
        }
    }

    /// Holds inputs to rules.
    pub(super) fn with_judge(mut self, judge: Option<Judge>) -> Self {
        let (opcode, message) = (Opcode::Text, Held::default());
        self.judging = judge.map(|judge| Box::new(Judging { judge, opcode, message, mask: [0; 4], came: 0 }));
        self
    }

    /// Charges inputs to `account`; nothing is counted without one.
    pub(super) fn with_account(mut self, account: Option<Box<dyn InputAccount>>) -> Self {
        self.account = account;
        self
    }

    /// What comes from now on goes no further: it is charged to nobody, and not held.
    pub(super) fn stop(&mut self) {
        (self.account, self.judging) = (None, None);
        self.newest.stop();
    }

    /// What its inputs are charged to.
    pub(super) fn account(&mut self) -> Option<&mut (dyn InputAccount + 'static)> {
        self.account.as_deref_mut()
    }

    pub(super) const fn newest(&mut self) -> &mut Newest {
        &mut self.newest
    }

    /// Whether the message under way goes on as it comes.
    pub(super) const fn lets_pass(&self) -> bool {
        self.judging.is_none() && !self.skips
    }

    /// Whether the frame under way, or the last one, is a ping, a pong or a close.
    pub(super) const fn is_in_control(&self) -> bool {
        self.current.is_control()
    }

    /// All that went on has been written.
    pub(super) fn written(&mut self) {
        self.sending = None;
    }

    /// What another socket of fal's is sent first; the rest of a message under way follows by itself, or is skipped where its
    /// beginning is not held.
    pub(super) fn begin_again(&mut self) -> Vec<u8> {
        let again = match self.newest.send_again(self.account.as_deref_mut(), &self.memory) {
            Ok(again) => again,
            Err(wait) => {
                self.refuse(("RATE_LIMITED", &wait_sentence("inputs", wait)), None);
                None
            }
        };
        self.skips |= again.is_none() && self.judging.is_none();
        let again = again.unwrap_or_default();
        self.sending = again.room;
        again.frames
    }

    fn refuse(&mut self, (error, reason): (&'static str, &str), request_id: Option<&str>) {
        let refusals = self.refusals.get_or_insert_default();
        refusals.told.refused += 1;
        if refusals.frames.len() < ENOUGH {
            write_error(&mut refusals.frames, error, reason, request_id);
        }
    }

    /// Charges a frame by its header. False where its message goes no further.
    fn charge(&mut self, header: &FrameHeader) -> bool {
        if !header.begins_message() {
            if let Some(account) = self.account.as_mut().filter(|_| !self.skips) {
                account.go_on(header.payload_bytes);
            }
            return !self.skips;
        }
        let charged = self.account.as_mut().map_or(Ok(()), |account| account.begin(header.payload_bytes));
        self.skips = charged.is_err();
        if let Err(wait) = charged {
            self.refuse(("RATE_LIMITED", &wait_sentence("inputs", wait)), None);
        }
        !self.skips
    }

    /// What the client is to hear of inputs that were refused, and how many were.
    pub(super) fn replies(&mut self) -> Option<(Vec<u8>, Told)> {
        self.refusals.take().map(|refusals| (refusals.frames, refusals.told))
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.newest.extend(bytes, &self.memory) {
            self.refusals.get_or_insert_default().told.unheld += 1;
        }
    }

    /// An input that is checked finds no room: it goes no further.
    fn give_up(&mut self) {
        self.skips = true;
        if let Some(judging) = &mut self.judging {
            judging.message.clear();
        }
        if let Some(account) = &mut self.account {
            account.unsent();
        }
        self.refuse(("RATE_LIMITED", FULL), None);
        self.refusals.get_or_insert_default().told.unheld += 1;
    }

    /// An input that is checked is whole.
    fn judge(&mut self, out: &mut Vec<u8>) {
        let Some(judging) = &mut self.judging else { return };
        let (message, room) = std::mem::take(&mut judging.message).into_parts();
        match judging.judge.judge(judging.opcode, &message) {
            Ok(input) => {
                let before = out.len();
                write_frame(out, judging.opcode, &input, Some(rand::random()));
                // What goes on is about as large as what came, and has its room until it is written.
                match (&mut self.sending, room) {
                    (Some(sending), Some(room)) => sending.merge(room),
                    (sending, room) => *sending = sending.take().or(room),
                }
                self.newest.begin();
                self.newest.note_payload(message.len() as u64);
                self.keep(&out[before..]);
            }
            Err(refusal) => {
                if let Some(account) = &mut self.account {
                    account.unsent();
                }
                self.refuse(("VALIDATION_ERROR", &refusal.reason), refusal.request_id.as_deref());
            }
        }
    }
}

impl Watch for UpWatch {
    fn begins(&mut self, header: &FrameHeader, raw: &[u8]) -> Treatment {
        self.current = header.opcode;
        if header.opcode == Opcode::Close {
            return Treatment::Take;
        }
        if header.opcode.is_control() {
            return Treatment::Pass;
        }
        if !self.charge(header) {
            return Treatment::Skip;
        }
        if let Some(judging) = &mut self.judging {
            if header.begins_message() {
                judging.opcode = header.opcode;
            }
            (judging.mask, judging.came) = (header.mask.unwrap_or_default(), 0);
            return Treatment::Read;
        }
        if self.newest.is_kept() {
            if header.begins_message() {
                self.newest.begin();
            }
            self.newest.note_payload(header.payload_bytes);
            self.keep(raw);
        }
        Treatment::Pass
    }

    fn passes(&mut self, part: &[u8]) {
        if self.current.is_control() || self.skips {
            return;
        }
        let Some(judging) = &mut self.judging else { return self.keep(part) };
        let under = (judging.mask, judging.came);
        judging.came += part.len() as u64;
        if let Err(NoRoom) = judging.message.extend_masked(part, under, &self.memory) {
            self.give_up();
        }
    }

    fn taken(&mut self, header: &FrameHeader, frame: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        if header.opcode != Opcode::Close {
            if header.fin && !self.skips {
                self.judge(out);
            }
            return Ok(());
        }
        let length = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX).min(frame.len());
        let mut payload = frame[frame.len() - length..].to_vec();
        apply_mask(&mut payload, header.mask.unwrap_or_default(), 0);
        let reason = CloseReason::read(&payload).map_err(|_| End::ClientFault(Breach::Close))?;
        Err(End::ClientClosed(reason))
    }

    fn fault(&self, fault: FrameFault) -> End {
        End::ClientFault(fault.into())
    }

    fn sender_lost(&self) -> End {
        End::ClientLost
    }

    fn receiver_lost(&self) -> Option<End> {
        // What fal said last may still be on its way: the other direction ends with it.
        None
    }
}
