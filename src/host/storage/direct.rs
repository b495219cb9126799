//! Uploads as Python's client does them: a token first, then the file itself, without an announcement (protocol spec 8.4).

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Request, Response};
use serde::Serialize;
use serde_json::json;

use super::initiate::{ANY_TYPE, is_media_type, plain_name};
use super::{Blob, BlobId, FilesService, Storage, StorageError, files, lifetime};
use crate::telemetry::write_time;
use crate::wire::{Body, PublicOrigin};

const FILE_NAME: HeaderName = HeaderName::from_static("x-fal-file-name");

/// The reply to `POST /storage/auth/token`.
#[derive(Debug, Serialize)]
pub(in crate::host) struct DirectToken {
    token: String,
    token_type: &'static str,
    base_url: String,
    expires_at: String,
}

impl Storage {
    /// A token for uploads to `/files/upload`, good for as long as an upload URL.
    pub(in crate::host) fn upload_token(&self, origin: &PublicOrigin) -> DirectToken {
        let until = SystemTime::now() + Duration::from_secs(self.settings.upload_url_valid_s.get());
        DirectToken {
            token: self.tokens.mint_direct(origin, until),
            token_type: "Bearer",
            base_url: origin.0.clone(),
            expires_at: with_offset(until),
        }
    }
}

/// Python before 3.11 reads `+00:00` and not `Z`.
fn with_offset(at: SystemTime) -> String {
    let mut out = Vec::new();
    write_time(at, &mut out);
    let text = String::from_utf8_lossy(&out);
    format!("{}+00:00", text.trim_end_matches('Z'))
}

impl FilesService {
    /// Takes a file whose sender has a token, and says where it is.
    pub(super) async fn take_direct(&self, request: Request<Body>) -> Result<Response<Body>, StorageError> {
        let storage = &self.storage;
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let token = text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let origin = storage.tokens.check_direct(token.ok_or(StorageError::BadToken(None))?)?;
        let content_type = text(CONTENT_TYPE).map(str::trim).filter(|text| is_media_type(text)).unwrap_or(ANY_TYPE);
        let url_name = files::file_name(BlobId::random(), content_type);
        let content_type = HeaderValue::try_from(content_type).map_err(|_| StorageError::BadToken(None))?;
        let name = text(FILE_NAME).map(plain_name).filter(|name| !name.is_empty());
        let life = lifetime::wanted(headers, &storage.settings);
        let id = files::id_of(&url_name).expect("a file's name begins with its id");
        let limit = storage.settings.max_file_bytes.get();
        let (bytes, _held) = storage.arriving.collect(request.into_body(), limit).await.map_err(StorageError::Body)?;
        let mut blob = Blob::new(bytes, content_type, life);
        blob.name = name;
        storage.files.keep_as(id, blob).map_err(StorageError::Store)?;
        Ok(crate::host::answer::json(&json!({ "access_url": Storage::url_of(&url_name, &origin) })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_has_an_offset() {
        let at = std::time::UNIX_EPOCH + Duration::from_secs(951_782_400);
        assert_eq!(with_offset(at), "2000-02-29T00:00:00.000+00:00");
    }
}
