//! How far the opening of a model has come.

use std::borrow::Cow;
use std::time::Duration;

/// One part of a model that is being opened, or has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartProgress {
    /// The part: `text_encoder`, `unet`, …, or `warm-up`.
    pub part: Cow<'static, str>,
    /// Size of the part's files, 0 where it has none.
    pub bytes: u64,
    /// How long opening took; `None` while it lasts.
    pub took: Option<Duration>,
}

/// Takes the reports of the code that opens a model.
pub struct LoadProgress(Box<dyn Fn(PartProgress) + Send + Sync>);

impl LoadProgress {
    /// Passes every report to `hear`.
    pub fn new(hear: impl Fn(PartProgress) + Send + Sync + 'static) -> Self {
        Self(Box::new(hear))
    }

    /// Drops every report.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(drop)
    }

    /// Reports that opening `part`, with files of `bytes` in all, begins.
    pub fn begin(&self, part: impl Into<Cow<'static, str>>, bytes: u64) {
        (self.0)(PartProgress { part: part.into(), bytes, took: None });
    }

    /// Reports that `part` is open.
    pub fn done(&self, part: impl Into<Cow<'static, str>>, bytes: u64, took: Duration) {
        (self.0)(PartProgress { part: part.into(), bytes, took: Some(took) });
    }
}
