//! `POST /storage/upload/initiate`: hands out an upload URL and the URL that the file will have.

use std::time::Duration;

use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use super::upload_token::Grant;
use super::{BlobId, Storage, StorageError, files, lifetime};
use crate::wire::{FieldError, PublicOrigin, fields_of_json};

pub(super) const ANY_TYPE: &str = "application/octet-stream";
const MAX_NAME: usize = 100;

/// The reply to an announced upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::host) struct Initiated {
    /// Where the bytes go, once.
    pub(in crate::host) upload_url: String,
    /// Where the file will be.
    pub(in crate::host) file_url: String,
}

impl Storage {
    /// Prepares an upload. Both fields of the body, `content_type` and `file_name`, may be missing.
    pub(in crate::host) fn initiate(
        &self,
        body: &[u8],
        headers: &HeaderMap,
        origin: &PublicOrigin,
    ) -> Result<Initiated, StorageError> {
        let fields = fields_of_json(body).map_err(StorageError::Announced)?;
        let text = |field: &str| match fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(announced(field, "string_type", "Input should be a valid string")),
        };
        let content_type = text("content_type")?.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(ANY_TYPE);
        if !is_media_type(content_type) {
            return Err(announced("content_type", "value_error", "Input should be a media type"));
        }
        let grant = Grant {
            id: BlobId::random(),
            content_type: content_type.to_owned(),
            name: text("file_name")?.map(plain_name).filter(|name| !name.is_empty()),
            life: lifetime::wanted(headers, &self.settings),
        };
        let token = self.tokens.mint(&grant, Duration::from_secs(self.settings.upload_url_valid_s.get()));
        let file_url = Self::url_of(&files::file_name(grant.id, content_type), origin);
        Ok(Initiated { upload_url: format!("{file_url}?{}={token}", files::TOKEN_FIELD), file_url })
    }
}

fn announced(field: &str, kind: &'static str, msg: &str) -> StorageError {
    StorageError::Announced(Box::new(FieldError::at(field, kind, msg)))
}

/// Whether text is `type/subtype`, perhaps with parameters, in characters that a header may hold.
pub(super) fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or(text).trim();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte))
    };
    let plain = text.len() <= 200 && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    plain && essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// A file name without paths, quotes or anything else that a header or a disk could stumble over.
pub(super) fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let plain = last.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' });
    plain.take(MAX_NAME).collect::<String>().trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_a_header_could_stumble_over() {
        assert_eq!(plain_name("../../a b\"\r\n.png"), "a_b___.png");
        assert_eq!(plain_name("C:\\x\\y.png"), "y.png");
        assert_eq!(plain_name(".."), "");
    }

    #[test]
    fn only_media_types_are_media_types() {
        for good in ["image/png", "image/svg+xml", "text/plain; charset=utf-8", "application/octet-stream"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "png", "image/", "/png", "image/png\r\nx: y", "imäge/png", "a b/c", "image/p ng"] {
            assert!(!is_media_type(bad), "{bad}");
        }
    }
}
