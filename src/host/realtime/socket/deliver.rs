//! What came of a socket's inputs, as its page hears it.

use super::Socket;
use crate::host::HostError;
use crate::host::realtime::frame_budget::OverBudget;
use crate::host::realtime::metrics::Dropped;
use crate::host::realtime::seat::{Asked, Reply};
use crate::host::realtime::work::Came;
use crate::host::safety::Safety;
use crate::host::service::log_failure;
use crate::host::waiting::Turned;
use crate::wire::ToProblem as _;
use crate::wire::message::{Control, error_word, wait_sentence};

impl Socket {
    pub(super) fn deliver(&mut self, came: Came) {
        match came {
            Came::Drawn(look) => self.last_look = look,
            Came::Finished(finished) => {
                let limit = self.seat.settings().result_bytes.get() as usize;
                if finished.message.len() > limit {
                    let reason = format!("the result is larger than {limit} bytes");
                    let (request_id, sequence) = (finished.reply.request_id(), finished.reply.sequence());
                    let error = Control::Error { error: "TOO_LARGE", reason: &reason, request_id, sequence };
                    return self.refuse(error.text());
                }
                self.seat.metrics().finished(finished.seconds);
                self.tally.results += 1;
                if self.outbox.put_result(finished.message).is_some() {
                    self.tally.stale += 1;
                    self.seat.metrics().dropped(Dropped::Stale);
                }
            }
            Came::Similar(reply) => {
                self.tally.similar += 1;
                self.seat.metrics().dropped(Dropped::Similar);
                let (request_id, sequence) = (reply.request_id(), reply.sequence());
                self.note(Control::Message { action: "similar", request_id, sequence, version: None }.text());
            }
            Came::Waits(standing) => {
                let waiting = Control::Waiting { action: "waiting", place: standing.place, wait_s: standing.wait_s() };
                self.note(waiting.text());
            }
            // The socket is about to end in silence, and its page comes back with this input.
            Came::Failed(failed) if matches!(failed.error, HostError::NoPlace(Turned::Closing)) => {}
            Came::Failed(failed) => {
                let problem = failed.error.to_problem();
                log_failure(&failed.error, &problem);
                let (request_id, sequence) = (failed.reply.request_id(), failed.reply.sequence());
                let (error, reason) = (error_word(problem.status()), problem.reason());
                self.refuse(Control::Error { error, reason: &reason, request_id, sequence }.text());
            }
        }
    }

    /// Tells a page of bare pictures once that they are not checked although it asks for that. Other results say so themselves:
    /// pages that know nothing of the gate may take any frame for a result.
    pub(super) fn warn(&mut self, asked: &Asked) {
        let Some(sequence) = asked.reply.sequence().filter(|_| !self.is_warned) else { return };
        let host = &self.seat.host;
        let safety = host.facts().ok().and_then(|facts| host.safety(&asked.input, &facts).ok());
        if let Some(action) = safety.and_then(Safety::warning) {
            self.is_warned = true;
            let note = Control::Message { action, request_id: None, sequence: Some(sequence), version: None };
            self.note(note.text());
        }
    }

    pub(super) fn over_budget(&mut self, (what, over): (&str, OverBudget), reply: &Reply) {
        let reason = wait_sentence(what, over.wait);
        let (request_id, sequence) = (reply.request_id(), reply.sequence());
        self.refuse(Control::Error { error: "RATE_LIMITED", reason: &reason, request_id, sequence }.text());
    }
}
