//! What stands for a store in programs that are built without the feature `redis`: it cannot be had.

use super::cost::Cost;
use super::error::LimitError;
use super::limits::{Inner, Limits};
use super::receipt::Receipt;
use super::refusal::Refusal;
use super::rows::Rows;
use super::settings::{Lasting, LimitSettings};
use super::standing::Standing;
use super::store_settings::LimitStore;
use super::subject::{Share, Subject};

/// A store that several gates share. There is none without the feature `redis`.
#[derive(Debug, Clone)]
pub enum RedisStore {}

impl RedisStore {
    /// `None` where the settings want no store.
    ///
    /// # Errors
    /// [`LimitError`] where they want one: this program was built without it.
    #[expect(clippy::unused_async, reason = "it waits where there is a store")]
    pub async fn connect(
        settings: &LimitSettings,
        _look_up: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, LimitError> {
        match settings.store {
            LimitStore::Memory => Ok(None),
            LimitStore::Redis => {
                let why = "is `redis`, and this program was built without the feature `redis`".to_owned();
                Err(LimitError::Setting { key: "store".to_owned(), why })
            }
        }
    }

    #[expect(clippy::unused_async, reason = "it waits where there is a store")]
    pub(super) async fn charge(&self, _: &Limits, _: &Subject, _: (Cost, Option<Lasting>)) -> Result<Receipt, Refusal> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "it waits where there is a store")]
    pub(super) async fn standing(&self, _: &Rows, _: Share<'_>) -> Result<Vec<Standing>, std::convert::Infallible> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "it waits where there is a store")]
    pub(super) async fn reset(&self, _: &Rows, _: Share<'_>) -> Result<Vec<bool>, std::convert::Infallible> {
        match *self {}
    }

    pub(super) fn forget_leases(&self) {
        match *self {}
    }

    pub(super) fn owe(&self, _: &Limits, _: &Subject, _: (Cost, Option<Lasting>)) -> Result<Receipt, Refusal> {
        match *self {}
    }
}

/// What was taken from a store.
#[derive(Debug)]
pub(super) enum SharedReceipt {}

impl SharedReceipt {
    pub(super) fn holds_places(&self) -> bool {
        match *self {}
    }

    pub(super) fn settle(&self, _: &Inner, _: Cost, _: Cost) -> bool {
        match *self {}
    }
}
