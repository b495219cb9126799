//! The output of a run: pictures scaled back and encoded, inline or stored.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use serde::Serialize;

use super::HostError;
use super::pictures::{Encoded, PicturePool, PictureSettings, encode, resize};
use super::storage::Storage;
use crate::engine::Picture;
use crate::wire::{Body, OutputImage, PictureFormat, PublicOrigin};

/// How pictures go back.
pub(super) struct Delivery<'a> {
    pub(super) settings: &'a PictureSettings,
    pub(super) pool: &'a PicturePool,
    /// The size that was asked for.
    pub(super) size: (u32, u32),
    pub(super) format: PictureFormat,
    pub(super) place: Place<'a>,
}

/// Where pictures go.
pub(super) enum Place<'a> {
    /// Into the answer, as data URIs.
    Inline,
    /// Into the store; the answer names their URLs.
    Stored { storage: &'a Storage, origin: &'a PublicOrigin, headers: &'a HeaderMap },
}

impl Delivery<'_> {
    /// Scales, encodes and places the pictures, keeping their order.
    ///
    /// The device has done its work by now, so nothing here refuses for want of a worker: the client would ask again
    /// and pay twice.
    pub(super) async fn deliver(&self, pictures: Vec<Picture>) -> Result<Vec<OutputImage>, HostError> {
        let work = pictures.into_iter().map(|picture| {
            let (size, format, settings) = (self.size, self.format, self.settings.clone());
            let inline = matches!(self.place, Place::Inline);
            self.pool.run_unrefused(move || {
                let encoded = encode(&resize(picture, size), format, &settings);
                let uri = inline.then(|| encoded.to_data_uri());
                (encoded, uri)
            })
        });
        let encoded = futures_util::future::join_all(work).await;
        encoded.into_iter().map(|(encoded, uri)| self.place(encoded, uri)).collect()
    }

    fn place(&self, encoded: Encoded, uri: Option<String>) -> Result<OutputImage, HostError> {
        let Encoded { width, height, format, bytes } = encoded;
        let (content_type, file_size) = (format.content_type(), bytes.len());
        let (url, file_name) = match (&self.place, uri) {
            (Place::Stored { storage, origin, headers }, None) => {
                let name = storage.keep_result(bytes.into(), content_type, headers)?;
                (Storage::url_of(&name, origin), Some(name))
            }
            (_, uri) => (uri.unwrap_or_default(), None),
        };
        Ok(OutputImage { url, width, height, content_type, file_name, file_size })
    }
}

/// 200 with a JSON body.
pub(super) fn json(body: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(body).expect("outputs hold strings and finite numbers only");
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
