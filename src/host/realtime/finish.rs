//! From the device's pictures to the frame that the page gets. All of it is the picture workers' work.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::draw::Drawn;
use super::seat::{Reply, Seat, Shape};
use crate::host::pictures::{PictureSettings, encode, resize};
use crate::wire::RunTimings;
use crate::wire::message::{DIRECT_HEADER_BYTES, Dialect, DirectHeader, SocketOutput, SocketPicture};

/// A result, ready to be sent.
pub(super) struct Finished {
    pub(super) message: Message,
    pub(super) reply: Reply,
    pub(super) seconds: f64,
}

/// Encodes pictures and writes their frame. The device has done its work, so nothing here is refused for want of a worker.
pub(super) async fn finish(seat: Arc<Seat>, drawn: Box<Drawn>) -> Finished {
    let settings = seat.host.settings.pictures.clone();
    let began = Instant::now();
    seat.host.pool.run_unrefused(move || write(*drawn, &settings, began)).await
}

fn write(drawn: Drawn, settings: &PictureSettings, began: Instant) -> Finished {
    let Drawn { pictures, flagged, safety, sizes, format, seed, decode, queue, timings, reply, .. } = drawn;
    let encode = |picture| {
        let encoded = encode(&resize(picture, sizes.output), format, settings);
        SocketPicture { bytes: encoded.bytes, width: encoded.width, height: encoded.height, format: encoded.format }
    };
    let pictures: Vec<SocketPicture> = pictures.into_iter().map(encode).collect();
    let seconds = reply.arrived.elapsed().as_secs_f64();
    let timings = RunTimings {
        inference: timings.inference().as_secs_f64(),
        decode: decode.as_secs_f64(),
        queue: queue.as_secs_f64(),
        encode: began.elapsed().as_secs_f64(),
        total: seconds,
    };
    let message = match reply.shape {
        Shape::Message { dialect, form, has_old_field } => {
            let output = SocketOutput {
                pictures,
                flagged,
                warning: safety.warning(),
                timings,
                seed: seed.shown().clone(),
                num_inference_steps: reply.steps,
                request_id: reply.request_id.clone(),
                has_old_field,
            };
            let frame = output.write(dialect, form);
            match dialect {
                Dialect::Text => Message::Text(Utf8Bytes::try_from(frame).expect("JSON is UTF-8")),
                Dialect::Binary => Message::Binary(frame),
            }
        }
        Shape::Direct { sequence } => direct(sequence, pictures, seed.bits(), timings),
    };
    Finished { message, reply, seconds }
}

fn direct(sequence: u32, pictures: Vec<SocketPicture>, seed: u64, timings: RunTimings) -> Message {
    let picture = pictures.into_iter().next().expect("a bare picture is answered with one");
    let size = (picture.width, picture.height);
    let header = DirectHeader { sequence, format: picture.format, size, seed, timings };
    let mut frame = Vec::with_capacity(DIRECT_HEADER_BYTES + picture.bytes.len());
    frame.extend_from_slice(&header.write());
    frame.extend_from_slice(&picture.bytes);
    Message::Binary(Bytes::from(frame))
}
