//! The newest input of a socket, as it went on: it is sent again where fal's socket breaks off before it is answered.

use super::held::{Held, room_for};
use crate::upstream::socket::budget::InputAccount;
use crate::wire::{MemoryBudget, Reserved};

/// Keeps the newest input until it has an answer.
#[derive(Debug)]
pub(super) struct Newest {
    is_kept: bool,
    /// There is no fal to send to.
    is_away: bool,
    /// Nobody has had the newest input whole, or fal would not look at it: it has been charged, and nothing was made of it.
    is_untouched: bool,
    /// An input was answered with a result on this socket of fal's.
    was_answered: bool,
    /// Inputs without an answer. Those that fal leaves out in favour of newer ones never get one.
    unanswered: u32,
    input: Option<Box<Input>>,
}

#[derive(Debug, Default)]
struct Input {
    /// As much of its frames as has come.
    frames: Held,
    payload_bytes: u64,
}

/// What another socket of fal's is sent first.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub(super) frames: Vec<u8>,
    /// What the frames take of the memory of all, until they are written.
    pub(super) room: Option<Reserved>,
}

impl Newest {
    pub(super) const fn new() -> Self {
        Self { is_kept: true, is_away: false, is_untouched: false, was_answered: false, unanswered: 0, input: None }
    }

    /// Nothing is kept from now on.
    pub(super) fn stop(&mut self) {
        (self.is_kept, self.input) = (false, None);
    }

    pub(super) const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// An input begins; it takes the place of the one before.
    pub(super) fn begin(&mut self) {
        if !self.is_kept {
            return;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.is_untouched = self.is_away;
        let input = self.input.get_or_insert_default();
        input.frames.clear();
        input.payload_bytes = 0;
    }

    /// More of its frames. False where there is no room: the input goes on and is not kept.
    pub(super) fn extend(&mut self, bytes: &[u8], memory: &MemoryBudget) -> bool {
        let Some(input) = &mut self.input else { return true };
        let has_room = input.frames.extend(bytes, memory).is_ok();
        if !has_room {
            self.input = None;
        }
        has_room
    }

    /// One of its frames has a payload of so many bytes.
    pub(super) fn note_payload(&mut self, bytes: u64) {
        if let Some(input) = &mut self.input {
            input.payload_bytes = input.payload_bytes.saturating_add(bytes);
        }
    }

    /// So many answers came: results, and errors.
    pub(super) fn answered(&mut self, results: u64, failures: u64) {
        self.was_answered |= results > 0 && self.unanswered > 0;
        let answers = u32::try_from(results + failures).unwrap_or(u32::MAX);
        self.unanswered = self.unanswered.saturating_sub(answers);
    }

    /// Lets go of an input that has its answer. It is whole.
    pub(super) fn forget_answered(&mut self) {
        if self.unanswered == 0 {
            self.input = None;
        }
    }

    /// Whether an input was answered with a result on this socket of fal's.
    pub(super) const fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// fal's socket is gone. Inputs are taken all the same: the newest will be sent.
    pub(super) fn go_away(&mut self) {
        self.is_away = true;
    }

    /// Nothing can have been made of the newest input.
    pub(super) fn note_untouched(&mut self) {
        self.is_untouched = true;
    }

    /// What another socket of fal's is sent first. It is charged once more, unless nothing can have been made of it.
    ///
    /// # Errors
    /// How long to wait, where it is more than its caller may have now. Then it is let go.
    pub(super) fn send_again(
        &mut self,
        account: Option<&mut (dyn InputAccount + 'static)>,
        memory: &MemoryBudget,
    ) -> Result<Option<Again>, std::time::Duration> {
        (self.is_away, self.was_answered, self.unanswered) = (false, false, 0);
        let Some(mut input) = self.input.take() else { return Ok(None) };
        let is_untouched = std::mem::take(&mut self.is_untouched);
        if let Some(account) = account.filter(|_| !is_untouched) {
            account.begin_again(input.payload_bytes)?;
        }
        self.unanswered = 1;
        let again = match room_for(input.frames.bytes().len(), memory) {
            Ok(room) => {
                let again = Again { frames: input.frames.bytes().to_vec(), room };
                self.input = Some(input);
                again
            }
            // Sent, and not kept for another time.
            Err(_) => {
                let (frames, room) = std::mem::take(&mut input.frames).into_parts();
                Again { frames, room }
            }
        };
        Ok(Some(again))
    }
}
