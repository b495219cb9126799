//! A result, in the dialect of its input.

use bytes::Bytes;
use rmpv::ValueRef;
use serde_json::Number;

use super::{Dialect, PictureForm};
use crate::wire::{LcmOutput, OutputImage, PictureFormat, RunTimings};

/// An encoded picture of a result.
#[derive(Clone, PartialEq, Eq)]
pub struct SocketPicture {
    /// The file.
    pub bytes: Vec<u8>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Its encoding.
    pub format: PictureFormat,
}

/// Shows the size only.
impl std::fmt::Debug for SocketPicture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SocketPicture({}x{}, {} bytes)", self.width, self.height, self.bytes.len())
    }
}

impl SocketPicture {
    /// The picture as a data URI.
    #[must_use]
    pub fn to_data_uri(&self) -> String {
        let mut uri = String::with_capacity(self.bytes.len() / 3 * 4 + 32);
        uri.push_str("data:");
        uri.push_str(self.format.content_type());
        uri.push_str(";base64,");
        base64_simd::STANDARD.encode_append(&self.bytes, &mut uri);
        uri
    }
}

/// A finished input, to be written in the way that its page reads.
#[derive(Debug, Clone, PartialEq)]
pub struct SocketOutput {
    /// The pictures.
    pub pictures: Vec<SocketPicture>,
    /// One flag a picture: it was found unsafe, and is black.
    pub flagged: Vec<bool>,
    /// What the run lacks of what was asked for. Messages of sockets have no headers.
    pub warning: Option<&'static str>,
    /// Where the time went.
    pub timings: RunTimings,
    /// Seed of the first picture.
    pub seed: Number,
    /// Steps that ran.
    pub num_inference_steps: u32,
    /// The input's `request_id`, `""` without one.
    pub request_id: String,
    /// The first picture stands in `image` too, where early pages look for it.
    pub has_old_field: bool,
}

impl SocketOutput {
    /// Writes the frame's payload. In text pictures are always URLs.
    #[must_use]
    pub fn write(self, dialect: Dialect, form: PictureForm) -> Bytes {
        match dialect {
            Dialect::Text => self.text(),
            Dialect::Binary => self.binary(form),
        }
    }

    fn text(self) -> Bytes {
        let image = |picture: &SocketPicture| OutputImage {
            url: picture.to_data_uri(),
            width: picture.width,
            height: picture.height,
            content_type: picture.format.content_type(),
            file_name: None,
            file_size: picture.bytes.len(),
        };
        let output = LcmOutput {
            images: self.pictures.iter().map(image).collect(),
            timings: self.timings,
            seed: self.seed,
            num_inference_steps: self.num_inference_steps,
            request_id: self.request_id,
            nsfw_content_detected: self.flagged.clone(),
            has_nsfw_concepts: self.flagged,
            warning: self.warning,
        };
        serde_json::to_vec(&output).expect("outputs hold strings and finite numbers only").into()
    }

    fn binary(self, form: PictureForm) -> Bytes {
        let uris: Vec<String> = match form {
            PictureForm::Url => self.pictures.iter().map(SocketPicture::to_data_uri).collect(),
            PictureForm::Content => Vec::new(),
        };
        let image = |(at, picture): (usize, &'_ SocketPicture)| -> ValueRef<'_> {
            let (name, value) = match form {
                PictureForm::Url => ("url", ValueRef::from(uris[at].as_str())),
                PictureForm::Content => ("content", ValueRef::Binary(&self.pictures[at].bytes)),
            };
            map([
                (name, value),
                ("width", picture.width.into()),
                ("height", picture.height.into()),
                ("content_type", picture.format.content_type().into()),
                ("file_size", picture.bytes.len().into()),
            ])
        };
        let flags = ValueRef::Array(self.flagged.iter().map(|flag| ValueRef::Boolean(*flag)).collect());
        let timings = self.timings;
        let mut fields = vec![
            ("images", ValueRef::Array(self.pictures.iter().enumerate().map(image).collect())),
            (
                "timings",
                map([
                    ("inference", timings.inference.into()),
                    ("decode", timings.decode.into()),
                    ("queue", timings.queue.into()),
                    ("encode", timings.encode.into()),
                    ("total", timings.total.into()),
                ]),
            ),
            ("seed", number(&self.seed)),
            ("num_inference_steps", self.num_inference_steps.into()),
            ("request_id", self.request_id.as_str().into()),
            ("nsfw_content_detected", flags.clone()),
            ("has_nsfw_concepts", flags),
        ];
        fields.extend(self.warning.map(|warning| ("warning", warning.into())));
        if let Some(first) = self.pictures.first().filter(|_| self.has_old_field) {
            fields.push(("image", ValueRef::Binary(&first.bytes)));
        }
        let bytes: usize = self.pictures.iter().map(|picture| picture.bytes.len() * 3 / 2 + 128).sum();
        let mut frame = Vec::with_capacity(bytes + 512);
        rmpv::encode::write_value_ref(&mut frame, &map(fields)).expect("a Vec takes all that is written");
        frame.into()
    }
}

fn map<'a>(fields: impl IntoIterator<Item = (&'static str, ValueRef<'a>)>) -> ValueRef<'a> {
    ValueRef::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

fn number(number: &Number) -> ValueRef<'static> {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(number), _, _) => number.into(),
        (None, Some(number), _) => number.into(),
        (None, None, number) => number.unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn output() -> SocketOutput {
        let timings = RunTimings { inference: 0.25, decode: 0.5, queue: 0.0625, encode: 0.125, total: 1.5 };
        let picture =
            SocketPicture { bytes: vec![0xFF, 0xD8, 0xFF], width: 512, height: 256, format: PictureFormat::Jpeg };
        SocketOutput {
            pictures: vec![picture],
            flagged: vec![true],
            warning: Some("something-missing"),
            timings,
            seed: 42.into(),
            num_inference_steps: 4,
            request_id: "r1".to_owned(),
            has_old_field: false,
        }
    }

    fn read(frame: &Bytes) -> rmpv::Value {
        rmpv::decode::read_value(&mut &frame[..]).unwrap()
    }

    #[test]
    fn a_text_result_is_the_apps_output() {
        let text: Value = serde_json::from_slice(&output().write(Dialect::Text, PictureForm::Content)).unwrap();
        let wanted = json!({
            "images": [{
                "url": "data:image/jpeg;base64,/9j/", "width": 512, "height": 256, "content_type": "image/jpeg", "file_size": 3,
            }],
            "timings": {"inference": 0.25, "decode": 0.5, "queue": 0.0625, "encode": 0.125, "total": 1.5},
            "seed": 42, "num_inference_steps": 4, "request_id": "r1",
            "nsfw_content_detected": [true], "has_nsfw_concepts": [true],
            "warning": "something-missing",
        });
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_binary_result_has_the_same_fields() {
        let text: Value = serde_json::from_slice(&output().write(Dialect::Text, PictureForm::Url)).unwrap();
        let binary = read(&output().write(Dialect::Binary, PictureForm::Url));
        assert_eq!(serde_json::from_str::<Value>(&binary.to_string()).unwrap(), text);
    }

    #[test]
    fn a_result_that_lacks_nothing_has_no_warning() {
        for dialect in [Dialect::Text, Dialect::Binary] {
            let frame = SocketOutput { warning: None, ..output() }.write(dialect, PictureForm::Url);
            assert!(!String::from_utf8_lossy(&frame).contains("warning"), "{dialect:?}");
        }
    }

    #[test]
    fn content_is_the_picture_itself() {
        let binary = read(&output().write(Dialect::Binary, PictureForm::Content));
        let image = &binary["images"][0];
        assert_eq!(image["content"], rmpv::Value::Binary(vec![0xFF, 0xD8, 0xFF]));
        assert!(image["url"].is_nil() && binary["image"].is_nil());
        let old = SocketOutput { has_old_field: true, ..output() };
        assert_eq!(read(&old.write(Dialect::Binary, PictureForm::Content))["image"], image["content"]);
    }
}
