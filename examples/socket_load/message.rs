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

/// What an app answers at once that returns the picture it was sent: the floor of every measurement of pictures.
pub(crate) fn returned(opcode: Opcode, mut input: &[u8]) -> Result<Vec<u8>, LoadError> {
    let none = || LoadError::Answer("no picture to return".to_owned());
    let mut answer = Vec::with_capacity(input.len());
    if opcode == Opcode::Text {
        let input: serde_json::Value = serde_json::from_slice(input).map_err(|_| none())?;
        let result = serde_json::json!({
            "images": [{ "url": input["image_url"], "content_type": "image/jpeg" }],
            "request_id": input["request_id"],
        });
        answer.extend_from_slice(result.to_string().as_bytes());
    } else {
        let input = rmpv::decode::read_value(&mut input).map_err(|_| none())?;
        let (Some(picture), Some(number)) = (field(&input, "image_bytes"), field(&input, "request_id")) else {
            return Err(none());
        };
        let image = Value::Map(vec![(Value::from("content"), picture.clone())]);
        let images = (Value::from("images"), Value::Array(vec![image]));
        let result = Value::Map(vec![images, (Value::from("request_id"), number.clone())]);
        rmpv::encode::write_value(&mut answer, &result).map_err(|_| none())?;
    }
    Ok(answer)
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
