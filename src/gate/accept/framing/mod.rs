//! Strict framing of HTTP/1 requests: where a head ends, whether it is beyond doubt, and where its body ends.
//!
//! hyper's parser is lenient where a gate must not be: it takes bare line feeds, two `Host` fields, `chunked, chunked`,
//! `Content-Length` beside `Transfer-Encoding` and absolute targets. This parser runs in front of it and lets through
//! only what has one meaning. It is pure: bytes in, verdict out; no I/O, no clock, no allocation (but for the line of a trailer).

mod chunk;
mod fault;
mod field;
mod framer;
mod head;
mod request_line;

pub use chunk::{ChunkFault, ChunkScanner};
pub use fault::HeadFault;
pub use framer::{Fault, Framer, Phase, Taken};
pub use head::{BodyKind, Head, HeadLimits, HeadScanner};

pub(super) use field::is_host;
pub(super) use request_line::{METHODS, is_taken};
