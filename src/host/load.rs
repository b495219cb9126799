//! The input picture of a run: found, decoded, fitted to the model.

use super::fetch::{Fetcher, shown};
use super::pictures::{
    PicturePool, PictureSettings, PictureText, Sizes, decode, plan_sizes, read_picture_text, resize,
};
use super::problem::PictureName;
use super::storage::Storage;
use super::{HostError, pictures};
use crate::engine::Picture;
use crate::wire::{ImageSource, PublicOrigin};

/// What loading needs.
#[derive(Clone, Copy)]
pub(super) struct Loader<'a> {
    pub(super) settings: &'a PictureSettings,
    pub(super) pool: &'a PicturePool,
    pub(super) fetcher: &'a Fetcher,
    pub(super) storage: &'a Storage,
    /// Origins whose files are never asked for over a network, even when they are gone.
    pub(super) origins: &'a [&'a PublicOrigin],
    pub(super) patience: Patience,
}

/// What happens where enough pictures wait for a worker already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The picture is refused: requests are not bounded by anything else.
    Refuses,
    /// It waits: its caller has one at a time.
    Waits,
}

/// A picture that the model can take.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) picture: Picture,
    pub(super) sizes: Sizes,
}

impl Loader<'_> {
    /// Loads `source` and scales it to a size whose sides are multiples of `multiple`.
    pub(super) async fn load(&self, source: ImageSource, multiple: u32) -> Result<Loaded, HostError> {
        let field = source.field();
        let (bytes, shown) = match source {
            ImageSource::Bytes(bytes) => (Encoded::File(bytes), "image_bytes".to_owned()),
            ImageSource::Url(text) => {
                let shown = shown(&text);
                (self.find(text, &PictureName { field, shown: shown.clone() }).await?, shown)
            }
        };
        let settings = self.settings.clone();
        let work = move || -> Result<Loaded, pictures::PictureError> {
            let picture = match bytes {
                Encoded::File(bytes) => decode(&bytes, &settings)?,
                Encoded::Text(text) => match read_picture_text(&text, settings.max_input_bytes.get())? {
                    PictureText::Inline(bytes) => decode(&bytes, &settings)?,
                    PictureText::Url => return Err(pictures::PictureError::NoUri),
                },
            };
            let sizes = plan_sizes((picture.width(), picture.height()), multiple, &settings);
            Ok(Loaded { picture: resize(picture, sizes.working), sizes })
        };
        let loaded = match self.patience {
            Patience::Refuses => self.pool.run(work).await?,
            Patience::Waits => self.pool.run_unrefused(work).await,
        };
        loaded.map_err(|cause| HostError::Picture { name: PictureName { field, shown }, cause })
    }

    async fn find(&self, text: String, name: &PictureName) -> Result<Encoded, HostError> {
        if !pictures::is_remote(&text) {
            return Ok(Encoded::Text(text));
        }
        let id = Storage::file_id(&text);
        if let Some(bytes) = id.and_then(|id| self.storage.read(id)) {
            return Ok(Encoded::File(bytes));
        }
        if id.is_some() && Storage::is_own(&text, self.origins) {
            return Err(HostError::Gone { name: name.clone() });
        }
        let fetched = self.fetcher.fetch(&text).await;
        fetched.map(Encoded::File).map_err(|cause| HostError::Fetch { name: name.clone(), cause })
    }
}

enum Encoded {
    File(bytes::Bytes),
    Text(String),
}
