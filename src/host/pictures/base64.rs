//! Pictures inside text: data URIs in every form that pages send, and bare base64 (protocol spec 11.5).

use std::borrow::Cow;

use super::PictureError;

/// What an `image_url` turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureText {
    /// An http(s) URL, as written.
    Url,
    /// The picture itself.
    Inline(Vec<u8>),
}

/// Beginnings of JPEG, PNG, WebP and GIF in base64.
const BARE: [&str; 4] = ["/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD"];
const BASE64_MARK: &[u8] = b"base64";

/// Whether the text of an `image_url` is an http(s) URL, to be fetched.
#[must_use]
pub fn is_remote(text: &str) -> bool {
    let text = text.trim_start();
    starts_with_ignoring_case(text, "http://") || starts_with_ignoring_case(text, "https://")
}

/// Reads the text of an `image_url`.
///
/// The media type is ignored, because pages get it wrong: the bytes tell. Line breaks, percent-encoding, the URL-safe
/// alphabet and missing padding are taken.
///
/// # Errors
/// [`PictureError`] for text that is neither URL nor picture, and for more than `limit` bytes.
pub fn read_picture_text(text: &str, limit: u64) -> Result<PictureText, PictureError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(PictureError::Empty);
    }
    if is_remote(text) {
        return Ok(PictureText::Url);
    }
    if starts_with_ignoring_case(text, "data:") {
        return data_uri(&text["data:".len()..], limit).map(PictureText::Inline);
    }
    if BARE.iter().any(|start| text.starts_with(start)) {
        return base64(text.as_bytes(), limit).map(PictureText::Inline);
    }
    Err(PictureError::NoUri)
}

fn data_uri(rest: &str, limit: u64) -> Result<Vec<u8>, PictureError> {
    let (head, data) = rest.split_once(',').ok_or(PictureError::NoUri)?;
    let head = head.trim_end().as_bytes();
    let marked =
        head.len() >= BASE64_MARK.len() && head[head.len() - BASE64_MARK.len()..].eq_ignore_ascii_case(BASE64_MARK);
    let bytes = if marked {
        base64(data.as_bytes(), limit)?
    } else {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(data).collect();
        within(bytes.len(), limit)?;
        bytes
    };
    if bytes.is_empty() { Err(PictureError::Empty) } else { Ok(bytes) }
}

fn base64(text: &[u8], limit: u64) -> Result<Vec<u8>, PictureError> {
    // Percent-encoding triples a byte at most, and four characters make three bytes: no larger text can fit.
    within(text.len() / 4, limit)?;
    let bytes = match base64_simd::forgiving_decode_to_vec(text) {
        Ok(bytes) => bytes,
        Err(_) => base64_simd::forgiving_decode_to_vec(&plain_alphabet(text)).map_err(|_| PictureError::Base64)?,
    };
    within(bytes.len(), limit)?;
    Ok(bytes)
}

/// Undoes percent-encoding, the URL-safe alphabet, odd spaces and wrong padding.
fn plain_alphabet(text: &[u8]) -> Vec<u8> {
    let decoded: Cow<'_, [u8]> = percent_encoding::percent_decode(text).into();
    decoded
        .iter()
        .filter_map(|byte| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'=' | 0x0b => None,
            byte => Some(*byte),
        })
        .collect()
}

fn within(length: usize, limit: u64) -> Result<(), PictureError> {
    if length as u64 > limit { Err(PictureError::TooManyBytes { limit }) } else { Ok(()) }
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.as_bytes().get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_uris_are_read_in_every_form_that_pages_send() {
        let want = PictureText::Inline(vec![0xfb, 0xff, 0xfe, 1]);
        for text in [
            "data:image/png;base64,+//+AQ==",
            "data:image/png;base64,+//+AQ",
            "data:image/png;base64,+/\r\n/+\tA Q==\n",
            "data:image/png;base64,%2B%2F%2F%2BAQ%3D%3D",
            "data:image/png;base64,-__-AQ==",
            "data:image/png;base64,-__-AQ=",
            "DATA:IMAGE/PNG;BASE64,+//+AQ==",
            "data:;base64,+//+AQ==",
            "data:base64,+//+AQ==",
            "data:text/plain;charset=x;base64,+//+AQ==",
            " data:image/png;base64,+//+AQ== ",
            "data:image/png,%FB%FF%FE%01",
        ] {
            assert_eq!(read_picture_text(text, 100).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_picture_text_says_why() {
        let why = |text: &str| read_picture_text(text, 8).unwrap_err().to_string();
        assert_eq!(why("  "), "it is empty");
        assert_eq!(why("data:image/png;base64,"), "it is empty");
        assert_eq!(why("data:image/png;base64"), "it is neither an http(s) URL nor a data URI");
        assert_eq!(why("blob:https://page/1"), "it is neither an http(s) URL nor a data URI");
        assert_eq!(why("file:///etc/passwd"), "it is neither an http(s) URL nor a data URI");
        assert_eq!(why("data:image/png;base64,!!!!"), "its base64 is broken");
        assert_eq!(why("data:image/png;base64,AAAAAAAAAAAAAAAA"), "it is larger than 8 bytes");
    }

    #[test]
    fn bare_base64_of_a_picture_is_taken() {
        assert!(matches!(read_picture_text("/9j/4AAQ", 100), Ok(PictureText::Inline(_))));
    }
}
