//! From a frame to an input, or to the words that refuse it.

use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Bytes;

use super::seat::{Asked, Reply, Shape};
use crate::host::HostError;
use crate::wire::Reserved;
use crate::wire::message::{Control, SocketInput, error_word, looks_like_a_picture};
use crate::wire::{FieldError, ToProblem as _};

/// Longest settings before bare pictures, in bytes: they are kept as long as the socket.
const LONGEST_SETTINGS: usize = 16 * 1024;

/// Reads the frames of one page.
#[derive(Debug)]
pub(super) struct Inbox {
    direct: Option<Box<Direct>>,
}

/// What a page said before its bare pictures.
#[derive(Debug, Default)]
struct Direct {
    settings: Option<Map<String, Value>>,
    pictures: u32,
}

/// What a frame was.
pub(super) enum Taken {
    /// An input.
    Asked(Box<Asked>),
    /// Something to be answered with this text at once.
    Answered(String),
    /// An input that is refused with this text.
    Refused(String),
}

impl Inbox {
    pub(super) fn new(takes_bare_pictures: bool) -> Self {
        Self { direct: takes_bare_pictures.then(Box::default) }
    }

    /// Reads a text frame.
    pub(super) fn text(&mut self, text: &[u8], arrived: Instant) -> Taken {
        let input = match SocketInput::from_text(text) {
            Ok(input) => input,
            Err(fault) => return refused(vec![*fault], None, None),
        };
        match &mut self.direct {
            Some(direct) if !input.has_picture() => direct.settings(input, text.len()),
            _ => message(input, arrived, None),
        }
    }

    /// Reads a binary frame.
    pub(super) fn binary(&mut self, frame: Bytes, arrived: Instant, memory: Option<Reserved>) -> Taken {
        match &mut self.direct {
            Some(direct) if looks_like_a_picture(&frame) => direct.picture(frame, arrived, memory),
            _ => match SocketInput::from_binary(&frame) {
                Ok(input) => message(input, arrived, memory),
                Err(fault) => refused(vec![*fault], None, None),
            },
        }
    }
}

impl Direct {
    fn settings(&mut self, input: SocketInput, bytes: usize) -> Taken {
        let request_id = input.request_id().map(str::to_owned);
        if bytes > LONGEST_SETTINGS {
            let what = format!("Settings have at most {LONGEST_SETTINGS} bytes, not {bytes}");
            return refused(vec![FieldError::at("prompt", "too_long", &what)], request_id.as_deref(), None);
        }
        let fields = input.into_fields();
        // The picture is to come; anything stands for it here.
        let stand_in = SocketInput::with_picture(fields.clone(), Bytes::from_static(b"picture"));
        let faults = match stand_in.check() {
            Ok(input) if input.num_images == 1 => Vec::new(),
            Ok(_) => vec![FieldError::at("num_images", "less_than_equal", "A bare picture is answered with one")],
            Err(faults) => faults,
        };
        if !faults.is_empty() {
            return refused(faults, request_id.as_deref(), None);
        }
        self.settings = Some(fields);
        let action = "settings";
        let answer = Control::Message { action, request_id: request_id.as_deref(), sequence: None, version: None };
        Taken::Answered(answer.text())
    }

    fn picture(&mut self, picture: Bytes, arrived: Instant, memory: Option<Reserved>) -> Taken {
        self.pictures = self.pictures.wrapping_add(1);
        let sequence = self.pictures;
        let Some(settings) = &self.settings else {
            let fault = FieldError::at("prompt", "missing", "Send the settings as JSON text before the first picture");
            return refused(vec![fault], None, Some(sequence));
        };
        let input = SocketInput::with_picture(settings.clone(), picture);
        asked(input, Shape::Direct { sequence }, arrived, memory)
    }
}

fn message(input: SocketInput, arrived: Instant, memory: Option<Reserved>) -> Taken {
    let shape = Shape::Message { dialect: input.dialect, form: input.form(), has_old_field: input.has_old_field() };
    asked(input, shape, arrived, memory)
}

fn asked(input: SocketInput, shape: Shape, arrived: Instant, memory: Option<Reserved>) -> Taken {
    let request_id = input.request_id().map(str::to_owned);
    let sequence = match shape {
        Shape::Direct { sequence } => Some(sequence),
        Shape::Message { .. } => None,
    };
    match input.check() {
        Ok(mut input) => {
            let reply = Reply {
                arrived,
                request_id: std::mem::take(&mut input.request_id),
                shape,
                steps: input.num_inference_steps,
            };
            Taken::Asked(Box::new(Asked { input, reply, memory, receipt: None }))
        }
        Err(faults) => refused(faults, request_id.as_deref(), sequence),
    }
}

fn refused(faults: Vec<FieldError>, request_id: Option<&str>, sequence: Option<u32>) -> Taken {
    let problem = HostError::Input(faults).to_problem();
    let (error, reason) = (error_word(problem.status()), problem.reason());
    Taken::Refused(Control::Error { error, reason: &reason, request_id, sequence }.text())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::message::Dialect;

    const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0 and so on";

    fn said(taken: &Taken) -> Value {
        match taken {
            Taken::Asked(_) => json!("asked"),
            Taken::Answered(text) | Taken::Refused(text) => serde_json::from_str(text).unwrap(),
        }
    }

    fn text(inbox: &mut Inbox, input: &Value) -> Value {
        said(&inbox.text(input.to_string().as_bytes(), Instant::now()))
    }

    fn picture(inbox: &mut Inbox) -> Value {
        said(&inbox.binary(Bytes::from_static(JPEG), Instant::now(), None))
    }

    #[test]
    fn an_invalid_input_is_told_all_that_is_wrong_with_its_id() {
        let refused = text(&mut Inbox::new(false), &json!({"request_id": "r1", "strength": 2}));
        assert_eq!((&refused["type"], &refused["error"]), (&json!("x-fal-error"), &json!("VALIDATION_ERROR")));
        let reason = refused["reason"].as_str().unwrap();
        assert!(reason.contains("prompt: Field required") && reason.contains("strength: "), "{reason}");
        assert_eq!(refused["request_id"], "r1");
    }

    #[test]
    fn settings_come_before_bare_pictures_and_hold_until_the_next() {
        let mut inbox = Inbox::new(true);
        let early = picture(&mut inbox);
        assert_eq!((&early["error"], &early["sequence"]), (&json!("VALIDATION_ERROR"), &json!(1)));
        let wrong = text(&mut inbox, &json!({"prompt": "a", "num_images": 2}));
        assert_eq!(wrong["error"], "VALIDATION_ERROR");
        let right = text(&mut inbox, &json!({"prompt": "a", "request_id": "s"}));
        assert_eq!(right, json!({"type": "x-fal-message", "action": "settings", "request_id": "s"}));
        let Taken::Asked(asked) = inbox.binary(Bytes::from_static(JPEG), Instant::now(), None) else { panic!() };
        assert_eq!((asked.reply.shape, asked.input.prompt.as_str()), (Shape::Direct { sequence: 2 }, "a"));
        assert_eq!(picture(&mut inbox), "asked");
    }

    #[test]
    fn settings_that_are_kept_are_short() {
        let mut inbox = Inbox::new(true);
        let long = json!({"prompt": "a", "request_id": "s", "note": "x".repeat(LONGEST_SETTINGS)});
        let refused = text(&mut inbox, &long);
        assert_eq!((&refused["error"], &refused["request_id"]), (&json!("VALIDATION_ERROR"), &json!("s")));
        assert_eq!(picture(&mut inbox)["error"], "VALIDATION_ERROR", "nothing of it was kept");
    }

    #[test]
    fn a_whole_input_is_answered_as_ever_on_a_socket_for_bare_pictures() {
        let mut inbox = Inbox::new(true);
        let whole = json!({"prompt": "a", "image_url": "data:,"});
        let Taken::Asked(asked) = inbox.text(whole.to_string().as_bytes(), Instant::now()) else { panic!() };
        assert!(matches!(asked.reply.shape, Shape::Message { dialect: Dialect::Text, .. }));
    }

    #[test]
    fn a_bare_picture_on_a_plain_socket_is_garbage() {
        assert_eq!(picture(&mut Inbox::new(false))["error"], "VALIDATION_ERROR");
    }
}
