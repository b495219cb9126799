//! Pictures on their way in and out: decode, fit to the model, encode. All of it is CPU work for the [`PicturePool`].

mod base64;
mod decode;
mod encode;
mod error;
mod fit;
mod pool;
mod settings;
mod webp;

pub use base64::{PictureText, is_remote, read_picture_text};
pub use decode::decode;
pub use encode::{Encoded, encode};
pub use error::PictureError;
pub use fit::{Sizes, plan_sizes, resize};
pub use pool::{PicturePool, PoolFull};
pub use settings::{Chroma, PictureSettings};
