//! What fal's realtime clients send and read on a socket (protocol spec 6.2, 6.3 and 11.5): JSON in text frames, MessagePack
//! in binary ones, decided frame by frame. Control frames are always text.

mod control;
mod direct;
mod input;
mod json;
mod msgpack;
mod output;

pub use control::{Control, TIMEOUT, UNAUTHORIZED, error_word, wait_sentence};
pub use direct::{DIRECT_HEADER_BYTES, DIRECT_VERSION, DirectHeader, looks_like_a_picture};
pub use input::{Dialect, PictureForm, SocketInput};
pub use output::{SocketOutput, SocketPicture};

/// Fields of an input that are kept. Pages send a dozen; what is far beyond that is no input.
const MAX_FIELDS: usize = 256;
