//! What the gate itself says on a socket. Always text, which every client reads: old ones crash on binary (spec 6.3).

use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

/// The answer to a token that opens nothing. Clients drop their token, go idle, and get another with their next input.
pub const UNAUTHORIZED: &str = r#"{"status":"error","error":"Unauthorized"}"#;

/// The last words to a socket that is closed while all is well: idle for long, old, or the gate ends. Clients report
/// nothing and come back with their next input.
pub const TIMEOUT: &str = r#"{"type":"x-fal-error","error":"TIMEOUT","reason":"no inputs, reconnect when needed!"}"#;

/// A control frame that is about one input.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Control<'a> {
    /// The input has no picture; the socket lives on. JavaScript reports it by `onError`, with status 400.
    #[serde(rename = "x-fal-error")]
    Error {
        /// One word for programs.
        error: &'static str,
        /// A sentence for people.
        reason: &'a str,
        /// The input's `request_id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
        /// Which picture it was, on a socket that takes bare pictures.
        #[serde(skip_serializing_if = "Option::is_none")]
        sequence: Option<u32>,
    },
    /// Something that pages may know and clients ignore.
    #[serde(rename = "x-fal-message")]
    Message {
        /// What it is.
        action: &'static str,
        /// The input's `request_id`.
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
        /// Which picture it was, on a socket that takes bare pictures.
        #[serde(skip_serializing_if = "Option::is_none")]
        sequence: Option<u32>,
        /// Version of the way in which bare pictures are sent.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<u8>,
    },
    /// The page's caller waits for a place at the engine. Clients ignore it; the picture comes once the place is there.
    #[serde(rename = "x-fal-message")]
    Waiting {
        /// What it is.
        action: &'static str,
        /// 1 for who is next.
        place: u32,
        /// About how long it will take, in seconds.
        wait_s: u64,
    },
}

impl Control<'_> {
    /// The frame's text.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers always serialise")
    }
}

/// What is told of an input that is more than its caller may have, `what`: when to try again, never earlier than the truth.
#[must_use]
pub fn wait_sentence(what: &str, wait: Duration) -> String {
    let tenths = wait.as_nanos().div_ceil(100_000_000).max(1);
    format!("more {what} than you may have, try again in {}.{} s", tenths / 10, tenths % 10)
}

/// The word of an `x-fal-error` for what a request would be answered with this status.
///
/// `TIMEOUT` is none of them: clients take that word for the end of an idle socket and swallow it.
#[must_use]
pub fn error_word(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "RATE_LIMITED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        413 => "TOO_LARGE",
        401 | 403 => "FORBIDDEN",
        400..=499 => "VALIDATION_ERROR",
        _ => "INTERNAL_ERROR",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn constants_are_what_the_types_would_write() {
        let timeout = Control::Error {
            error: "TIMEOUT",
            reason: "no inputs, reconnect when needed!",
            request_id: None,
            sequence: None,
        };
        assert_eq!(timeout.text(), TIMEOUT);
        let unauthorized: Value = serde_json::from_str(UNAUTHORIZED).unwrap();
        assert_eq!(unauthorized, json!({"status": "error", "error": "Unauthorized"}));
    }

    #[test]
    fn a_wait_is_never_told_shorter_than_it_is() {
        let told = |nanos| wait_sentence("inputs", Duration::from_nanos(nanos));
        assert_eq!(told(1_400_000_001), "more inputs than you may have, try again in 1.5 s");
        assert!(told(0).ends_with(" 0.1 s") && told(60_000_000_000).ends_with(" 60.0 s"));
    }

    #[test]
    fn an_error_names_its_input_where_it_has_a_name() {
        let error =
            Control::Error { error: "RATE_LIMITED", reason: "too \"fast\"", request_id: Some("a"), sequence: None };
        let wanted = r#"{"type":"x-fal-error","error":"RATE_LIMITED","reason":"too \"fast\"","request_id":"a"}"#;
        assert_eq!(error.text(), wanted);
        let skipped = Control::Message { action: "similar", request_id: None, sequence: Some(7), version: None };
        assert_eq!(skipped.text(), r#"{"type":"x-fal-message","action":"similar","sequence":7}"#);
    }

    #[test]
    fn no_status_is_told_as_the_word_that_clients_swallow() {
        for status in 400..600 {
            assert_ne!(error_word(StatusCode::from_u16(status).unwrap()), "TIMEOUT");
        }
        assert_eq!(error_word(StatusCode::UNPROCESSABLE_ENTITY), "VALIDATION_ERROR");
    }
}
