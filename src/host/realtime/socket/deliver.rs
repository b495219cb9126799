//! What came of a socket's inputs, as its page hears it.

use super::Socket;
use crate::engine::ModelFacts;
use crate::host::HostError;
use crate::host::realtime::frame_budget::OverBudget;
use crate::host::realtime::metrics::Dropped;
use crate::host::realtime::seat::{Asked, Reply};
use crate::host::realtime::work::Came;
use crate::host::safety::{MISSING, Safety};
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

    /// Says once that pictures are not checked although the page asks for it. A socket's answers have no headers, and clients
    /// ignore the note.
    pub(super) fn warn(&mut self, asked: &Asked) {
        let host = &self.seat.host;
        let missing = |facts: &ModelFacts| matches!(host.safety(&asked.input, facts), Ok(Safety::Missing));
        if !self.is_warned && host.facts().is_ok_and(|facts| missing(&facts)) {
            self.is_warned = true;
            let (request_id, sequence) = (asked.reply.request_id(), asked.reply.sequence());
            self.note(Control::Message { action: MISSING, request_id, sequence, version: None }.text());
        }
    }

    pub(super) fn over_budget(&mut self, (what, over): (&str, OverBudget), reply: &Reply) {
        let reason = wait_sentence(what, over.wait);
        let (request_id, sequence) = (reply.request_id(), reply.sequence());
        self.refuse(Control::Error { error: "RATE_LIMITED", reason: &reason, request_id, sequence }.text());
    }
}
