//! Inputs and results as fal's clients write and read them, in either dialect.

use rmpv::Value;

use super::arguments::Dialect;
use super::error::LoadError;
use super::frame::Opcode;
use super::picture::Stroke;
use super::socket::Message;

/// What a page sends for one stroke.
pub(crate) fn input(dialect: Dialect, stroke: &Stroke, number: u64) -> (Opcode, Vec<u8>) {
    match dialect {
        Dialect::Text => {
            let text = format!(
                r#"{{"prompt":"a lighthouse","image_url":"{}","strength":0.65,"seed":42,"num_inference_steps":4,"sync_mode":true,"request_id":"{number}"}}"#,
                stroke.data_uri
            );
            (Opcode::Text, text.into_bytes())
        }
        Dialect::Binary => {
            let text = |text: &str| Value::from(text);
            let map = Value::Map(vec![
                (text("prompt"), text("a lighthouse")),
                (text("image_bytes"), Value::Binary(stroke.jpeg.clone())),
                (text("strength"), Value::from(0.65)),
                (text("seed"), Value::from(42)),
                (text("num_inference_steps"), Value::from(4)),
                (text("request_id"), Value::from(number.to_string())),
            ]);
            let mut bytes = Vec::with_capacity(stroke.jpeg.len() + 256);
            // Writing into a Vec cannot fail.
            let _ = rmpv::encode::write_value(&mut bytes, &map);
            (Opcode::Binary, bytes)
        }
    }
}

/// What came back for a stroke.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Number of the stroke.
    pub(crate) number: u64,
    /// Bytes of the encoded picture, as text or binary.
    pub(crate) picture: Vec<u8>,
}

/// Reads a result. Anything else, an error of fal's too, is none.
pub(crate) fn result(message: &Message) -> Result<Shown, LoadError> {
    let shown = match message.opcode {
        Opcode::Text => from_text(&message.payload),
        _ => from_binary(&message.payload),
    };
    shown.ok_or_else(|| {
        let start = &message.payload[..message.payload.len().min(300)];
        LoadError::Answer(String::from_utf8_lossy(start).into_owned())
    })
}

fn from_text(payload: &[u8]) -> Option<Shown> {
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let number = value["request_id"].as_str()?.parse().ok()?;
    let uri = value["images"][0]["url"].as_str()?;
    let (_, text) = uri.split_once(";base64,")?;
    Some(Shown { number, picture: base64_simd::STANDARD.decode_to_vec(text).ok()? })
}

fn from_binary(mut payload: &[u8]) -> Option<Shown> {
    let value = rmpv::decode::read_value(&mut payload).ok()?;
    let number = field(&value, "request_id")?.as_str()?.parse().ok()?;
    let image = field(&value, "images")?.as_array()?.first()?;
    let picture = field(image, "content")?.as_slice()?.to_vec();
    Some(Shown { number, picture })
}

fn field<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    map.as_map()?.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

/// Whether a text frame is a control frame of fal's: an error, or a note about the session.
pub(crate) fn is_control(message: &Message) -> bool {
    message.opcode == Opcode::Text
        && serde_json::from_slice::<serde_json::Value>(&message.payload)
            .is_ok_and(|value| value["type"].as_str().is_some_and(|kind| kind.starts_with("x-fal-")))
}
