//! One input of a socket, out of a frame of either kind.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{json, msgpack};
use crate::wire::{FieldError, LcmInput};

/// The encoding of a message: a reply has that of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// JSON in a text frame.
    Text,
    /// MessagePack in a binary frame.
    Binary,
}

/// How the pictures of a reply are given: pages that send bytes read bytes, pages that send URLs read URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PictureForm {
    /// `images[].url`, a data URI.
    Url,
    /// `images[].content`, the encoded picture itself.
    Content,
}

/// Fields in which pages send a picture as bytes: the documented one, what the camera demos called it at first, and the
/// field of URLs.
const BYTE_FIELDS: [&str; 3] = ["image_bytes", "image", "image_url"];
/// Pages put it into an input to say that they want binary replies.
const FORCE_BINARY: &str = "_force_msgpack";
/// Longest `request_id` that is echoed in an error, in bytes.
const LONGEST_ID: usize = 1024;

/// One input, read but not checked yet.
pub struct SocketInput {
    /// The encoding that it came in.
    pub dialect: Dialect,
    fields: Map<String, Value>,
    picture: Option<(&'static str, Bytes)>,
    wants_content: bool,
}

/// Shows sizes only: prompts and pictures are nobody's business in a log.
impl std::fmt::Debug for SocketInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketInput")
            .field("dialect", &self.dialect)
            .field("fields", &self.fields.len())
            .field("picture_bytes", &self.picture.as_ref().map(|(_, bytes)| bytes.len()))
            .finish_non_exhaustive()
    }
}

impl SocketInput {
    /// Reads the JSON of a text frame.
    ///
    /// # Errors
    /// One fault, worded as for a request's body.
    pub fn from_text(text: &[u8]) -> Result<Self, Box<FieldError>> {
        let fields = json::fields(text)?;
        Ok(Self { dialect: Dialect::Text, fields, picture: None, wants_content: false })
    }

    /// Reads the MessagePack of a binary frame. Pictures are not copied: they stay parts of `frame`.
    ///
    /// # Errors
    /// One fault that says what is wrong with it.
    pub fn from_binary(frame: &Bytes) -> Result<Self, Box<FieldError>> {
        let msgpack::Fields { mut fields, mut bytes } = msgpack::fields(frame)?;
        let wants_content = fields.contains_key(FORCE_BINARY) || bytes.iter().any(|(name, _)| *name == FORCE_BINARY);
        let picture = BYTE_FIELDS.iter().find_map(|field| {
            let at = bytes.iter().position(|(name, bytes)| name == field && !bytes.is_empty())?;
            Some((*field, bytes.swap_remove(at).1))
        });
        for (name, bytes) in bytes {
            // Bytes where a text or a number belongs are a fault of that field, and nothing at all are none.
            if !bytes.is_empty() {
                fields.insert(name, Value::Array(Vec::new()));
            }
        }
        Ok(Self { dialect: Dialect::Binary, fields, picture, wants_content })
    }

    /// An input whose picture came by itself.
    #[must_use]
    pub fn with_picture(fields: Map<String, Value>, picture: Bytes) -> Self {
        Self { dialect: Dialect::Binary, fields, picture: Some((BYTE_FIELDS[0], picture)), wants_content: true }
    }

    /// The `request_id`, for an answer that comes before the input is checked.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        let id = self.fields.get("request_id").and_then(Value::as_str);
        id.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)
    }

    /// How the reply's pictures are given. JSON carries no bytes.
    #[must_use]
    pub const fn form(&self) -> PictureForm {
        match self.dialect {
            Dialect::Binary if self.wants_content || self.picture.is_some() => PictureForm::Content,
            Dialect::Binary | Dialect::Text => PictureForm::Url,
        }
    }

    /// Whether the picture came in the field `image`; such pages read their reply there.
    #[must_use]
    pub fn has_old_field(&self) -> bool {
        self.picture.as_ref().is_some_and(|(field, _)| *field == BYTE_FIELDS[1])
    }

    /// Whether a picture is named at all.
    #[must_use]
    pub fn has_picture(&self) -> bool {
        let named = |field: &str| self.fields.get(field).is_some_and(|value| !value.is_null());
        self.picture.is_some() || BYTE_FIELDS.iter().any(|field| named(field))
    }

    /// The fields, without a picture that came as bytes.
    #[must_use]
    pub fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    /// Checks the input.
    ///
    /// # Errors
    /// Every fault of every field.
    pub fn check(self) -> Result<LcmInput, Vec<FieldError>> {
        LcmInput::from_fields(self.fields, self.picture.map(|(_, bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use rmpv::Value as Pack;
    use serde_json::json;

    use super::*;
    use crate::wire::ImageSource;

    fn packed(fields: &[(&str, Pack)]) -> Bytes {
        let map = fields.iter().map(|(name, value)| (Pack::from(*name), value.clone())).collect();
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, &Pack::Map(map)).unwrap();
        out.into()
    }

    fn binary(fields: &[(&str, Pack)]) -> SocketInput {
        SocketInput::from_binary(&packed(fields)).unwrap()
    }

    #[test]
    fn a_reply_has_the_form_that_its_input_asks_for() {
        let bytes = || Pack::Binary(vec![0xFF, 0xD8, 0xFF]);
        for (fields, form, old) in [
            (vec![("image_url", Pack::from("data:,"))], PictureForm::Url, false),
            (vec![("prompt", Pack::from("a"))], PictureForm::Url, false),
            (vec![("image_bytes", bytes())], PictureForm::Content, false),
            (vec![("image_url", bytes())], PictureForm::Content, false),
            (vec![("image", bytes())], PictureForm::Content, true),
            (
                vec![("image_url", Pack::from("data:,")), (FORCE_BINARY, Pack::Binary(Vec::new()))],
                PictureForm::Content,
                false,
            ),
            (vec![("image_url", Pack::from("data:,")), (FORCE_BINARY, Pack::Nil)], PictureForm::Content, false),
        ] {
            let input = binary(&fields);
            assert_eq!((input.form(), input.has_old_field()), (form, old), "{fields:?}");
        }
        let text = SocketInput::from_text(br#"{"image_bytes":"/9j/","_force_msgpack":{}}"#).unwrap();
        assert_eq!(text.form(), PictureForm::Url, "JSON carries no bytes");
    }

    #[test]
    fn every_field_of_a_binary_input_is_read_as_leniently_as_json() {
        let input = binary(&[
            ("prompt", Pack::from("a cat")),
            ("image_bytes", Pack::Binary(vec![1, 2, 3])),
            ("num_inference_steps", Pack::from("2")),
            ("sync_mode", Pack::from(1)),
            ("strength", Pack::F32(0.5)),
            ("seed", Pack::from(u64::MAX)),
            ("guidance_scale", Pack::Nil),
            ("image_size", Pack::Map(vec![(Pack::from("width"), Pack::from(512))])),
            ("unknown", Pack::Array(vec![Pack::Nil; 70_000])),
            ("when", Pack::Ext(-1, vec![0; 4])),
            ("_force_msgpack", Pack::Binary(Vec::new())),
            ("request_id", Pack::from("r1")),
        ]);
        assert_eq!(input.request_id(), Some("r1"));
        let input = input.check().unwrap();
        assert_eq!(input.image, ImageSource::Bytes(Bytes::from_static(&[1, 2, 3])));
        assert_eq!((input.num_inference_steps, input.sync_mode, input.strength), (2, true, 0.5));
        assert_eq!((input.seed.unwrap().bits(), input.guidance_scale), (u64::MAX, 1.0));
    }

    #[test]
    fn bytes_where_text_belongs_are_a_fault_of_that_field() {
        let input = binary(&[("prompt", Pack::Binary(vec![1])), ("image_bytes", Pack::Binary(vec![1]))]);
        let faults = input.check().unwrap_err();
        assert_eq!((faults.len(), faults[0].kind), (1, "string_type"));
    }

    #[test]
    fn a_picture_is_a_part_of_its_frame_and_no_copy() {
        let frame = packed(&[("prompt", Pack::from("a")), ("image_bytes", Pack::Binary(vec![7; 1000]))]);
        let input = SocketInput::from_binary(&frame).unwrap();
        let (_, picture) = input.picture.unwrap();
        let whole = frame.as_ptr_range();
        assert!(whole.contains(&picture.as_ptr()));
    }

    #[test]
    fn text_inputs_are_read_as_bodies_are() {
        let text = json!({"prompt": "a", "image_url": "data:,", "sync_mode": 1, "strength": "0.5", "x": {"y": [1]}});
        let input = SocketInput::from_text(text.to_string().as_bytes()).unwrap();
        assert_eq!((input.dialect, input.request_id()), (Dialect::Text, None));
        assert_eq!(input.check().unwrap().strength, 0.5);
    }
}
