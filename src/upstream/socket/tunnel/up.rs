//! What a client's frames mean: its close, its newest input, and the rules and shares that its inputs are held to.

use super::End;
use super::end::Breach;
use super::meaning::{Treatment, Watch};
use crate::upstream::socket::budget::InputAccount;
use crate::upstream::socket::control::write_error;
use crate::upstream::socket::judge::Judge;
use crate::wire::frame::{CloseReason, FrameFault, FrameHeader, Opcode, apply_mask, write_frame};
use crate::wire::message::wait_sentence;

/// Beyond so many bytes of refusals that wait to be said, one more is counted and not said.
const ENOUGH: usize = 4 * 1024;

/// Watches the client.
#[derive(Debug)]
pub(super) struct UpWatch {
    newest: Option<Newest>,
    judging: Option<Box<Judging>>,
    account: Option<Box<dyn InputAccount>>,
    /// The message under way is more than its client may send: none of it goes on.
    skips: bool,
    refusals: Option<Box<Refusals>>,
    current: Opcode,
}

/// What the client has not been told yet.
#[derive(Debug, Default)]
struct Refusals {
    frames: Vec<u8>,
    refused: u64,
}

/// The newest input as it was sent on, for a socket that is opened anew.
#[derive(Debug, Default)]
struct Newest {
    frames: Vec<u8>,
}

/// Inputs are read, checked, and written anew.
#[derive(Debug)]
struct Judging {
    judge: Judge,
    opcode: Opcode,
    message: Vec<u8>,
}

impl UpWatch {
    pub(super) fn new(judge: Option<Judge>) -> Self {
        let judging = judge.map(|judge| Box::new(Judging { judge, opcode: Opcode::Text, message: Vec::new() }));
        Self {
            newest: Some(Newest::default()),
            judging,
            account: None,
            skips: false,
            refusals: None,
            current: Opcode::Close,
        }
    }

    /// Charges inputs to `account`; nothing is counted without one.
    pub(super) fn with_account(mut self, account: Option<Box<dyn InputAccount>>) -> Self {
        self.account = account;
        self
    }

    /// What comes from now on goes no further, and is charged to nobody.
    pub(super) fn stop_charging(&mut self) {
        self.account = None;
    }

    /// What its inputs are charged to.
    pub(super) fn account(&mut self) -> Option<&mut (dyn InputAccount + 'static)> {
        self.account.as_deref_mut()
    }

    fn refuse(&mut self, (error, reason): (&'static str, &str), request_id: Option<&str>) {
        let refusals = self.refusals.get_or_insert_default();
        refusals.refused += 1;
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

    /// The newest input is not needed any more: nothing is kept from now on.
    pub(super) fn forget_newest(&mut self) {
        self.newest = None;
    }

    pub(super) const fn keeps_newest(&self) -> bool {
        self.newest.is_some()
    }

    /// What the frame under way is, or was the last one.
    pub(super) const fn current(&self) -> Opcode {
        self.current
    }

    /// The newest input, as much of it as has come. The rest of it follows by itself.
    pub(super) fn newest(&self) -> Option<Vec<u8>> {
        self.newest.as_ref().map(|newest| newest.frames.clone())
    }

    /// What the client is to hear of inputs that were refused.
    pub(super) fn replies(&mut self) -> Option<(Vec<u8>, u64)> {
        self.refusals.take().map(|refusals| (refusals.frames, refusals.refused))
    }
}

impl Watch for UpWatch {
    fn begins(&mut self, header: &FrameHeader, raw: &[u8]) -> Treatment {
        self.current = header.opcode;
        if header.opcode == Opcode::Close {
            return Treatment::Take;
        }
        if !header.opcode.is_control() && !self.charge(header) {
            return Treatment::Skip;
        }
        if self.judging.is_some() {
            return Treatment::Take;
        }
        if let Some(newest) = &mut self.newest {
            if header.begins_message() {
                newest.frames.clear();
            }
            if !header.opcode.is_control() {
                newest.frames.extend_from_slice(raw);
            }
        }
        Treatment::Pass
    }

    fn passes(&mut self, part: &[u8]) {
        if let Some(newest) = self.newest.as_mut().filter(|_| !self.current.is_control()) {
            newest.frames.extend_from_slice(part);
        }
    }

    fn taken(&mut self, header: &FrameHeader, frame: &[u8], out: &mut Vec<u8>) -> Result<(), End> {
        let length = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX).min(frame.len());
        let (_, payload) = frame.split_at(frame.len() - length);
        let mut payload = payload.to_vec();
        apply_mask(&mut payload, header.mask.unwrap_or_default(), 0);
        if header.opcode == Opcode::Close {
            let reason = CloseReason::read(&payload).map_err(|_| End::ClientFault(Breach::Close))?;
            return Err(End::ClientClosed(reason));
        }
        let Some(judging) = self.judging.as_mut().filter(|_| !header.opcode.is_control()) else {
            out.extend_from_slice(frame);
            return Ok(());
        };
        if header.begins_message() {
            judging.opcode = header.opcode;
        }
        judging.message.append(&mut payload);
        if !header.fin {
            return Ok(());
        }
        let message = std::mem::take(&mut judging.message);
        match judging.judge.judge(judging.opcode, &message) {
            Ok(input) => {
                let before = out.len();
                write_frame(out, judging.opcode, &input, Some(rand::random()));
                if let Some(newest) = &mut self.newest {
                    newest.frames = out[before..].to_vec();
                }
            }
            Err(refusal) => {
                if let Some(account) = &mut self.account {
                    account.unsent();
                }
                self.refuse(("VALIDATION_ERROR", &refusal.reason), refusal.request_id.as_deref());
            }
        }
        Ok(())
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
