//! What the gate itself says on a socket: always text, which every client of fal's reads (protocol spec 6.3).

use serde_json::Value;

use crate::wire::frame::{Opcode, write_frame};
use crate::wire::message::{Control, TIMEOUT};

/// Appends an `x-fal-error` frame: `onError` in JavaScript, an exception in Python. The socket stays usable.
pub(super) fn write_error(out: &mut Vec<u8>, error: &'static str, reason: &str, request_id: Option<&str>) {
    let frame = Control::Error { error, reason, request_id, sequence: None };
    write_frame(out, Opcode::Text, frame.text().as_bytes(), None);
}

/// Appends the frame after which clients say nothing, and reconnect with their next input.
pub(super) fn write_timeout(out: &mut Vec<u8>) {
    write_frame(out, Opcode::Text, TIMEOUT.as_bytes(), None);
}

/// Whether a text is fal's answer to a token or key that it does not take.
pub(super) fn is_unauthorized(text: &[u8]) -> bool {
    let Ok(frame) = serde_json::from_slice::<Value>(text) else { return false };
    frame["status"] == "error" && frame["error"] == "Unauthorized"
}

/// Whether a text that begins like this is about the socket, and no result.
pub(super) fn begins_like_control(text: &[u8]) -> bool {
    begins_with_one_of(text, &[br#"{"type":"x-fal-"#, br#"{"status":"error""#])
}

/// Whether a text that begins like this says that an input has no result.
pub(super) fn begins_like_failure(text: &[u8]) -> bool {
    begins_with_one_of(text, &[br#"{"type":"x-fal-error""#, br#"{"status":"error""#])
}

fn begins_with_one_of(text: &[u8], beginnings: &[&[u8]]) -> bool {
    let plain = || text.iter().filter(|byte| !byte.is_ascii_whitespace());
    beginnings.iter().any(|beginning| plain().take(beginning.len()).eq(beginning.iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_frames_are_told_from_results() {
        assert!(is_unauthorized(br#"{"status":"error","error":"Unauthorized"}"#));
        assert!(is_unauthorized(br#"{"error": "Unauthorized", "status": "error"}"#));
        assert!(!is_unauthorized(br#"{"status":"error","error":"Other"}"#) && !is_unauthorized(b"Unauthorized"));
        assert!(begins_like_control(br#"{"type": "x-fal-message", "action"#));
        assert!(begins_like_control(br#"{"status": "error","#));
        assert!(!begins_like_control(br#"{"images": [{"url": "data:"#));
        assert!(begins_like_failure(br#"{"type": "x-fal-error", "error"#));
        assert!(!begins_like_failure(br#"{"type": "x-fal-message", "action"#));
    }
}
