//! Tells a page that its token opens nothing, in the only way that does not lock it.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::wire::SocketPass;
use crate::wire::frame::{
    CloseReason, FrameEvent, FrameLimits, FrameSender, FrameWalker, Opcode, close_code, write_close, write_frame,
};
use crate::wire::message::UNAUTHORIZED;

/// Time for the words to leave, and for the page's own close.
const GRACE: Duration = Duration::from_secs(2);
/// What a page may send behind its handshake before it is cut off.
const LINGER_BYTES: usize = 64 * 1024;

/// Says `Unauthorized` and closes, in one write: a close that came later would end the page's next socket, which works
/// (protocol spec 6.6, rule 2). `pass` is held until the page is gone.
pub(super) async fn turn_away(upgrade: OnUpgrade, pass: SocketPass) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut stream = TokioIo::new(upgraded);
    let mut words = Vec::with_capacity(64);
    write_frame(&mut words, Opcode::Text, UNAUTHORIZED.as_bytes(), None);
    write_close(&mut words, &CloseReason { code: close_code::NORMAL, text: "".into() }, None);
    let ended = timeout(GRACE, async {
        stream.write_all(&words).await?;
        stream.flush().await?;
        linger(&mut stream).await?;
        stream.shutdown().await
    });
    // However it ended, it ended.
    drop((ended.await, pass));
}

/// Reads until the page has closed too: what it sent already must not turn the close into a reset.
async fn linger<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<()> {
    let bytes = LINGER_BYTES as u64;
    let limits = FrameLimits { frame_bytes: bytes, message_bytes: bytes, fragments: 1024 };
    let mut walker = FrameWalker::new(FrameSender::Client, limits);
    let (mut kept, mut sum) = (Vec::new(), 0);
    let mut piece = [0; 2048];
    loop {
        let read = stream.read(&mut piece).await?;
        sum += read;
        if read == 0 || sum > LINGER_BYTES {
            return Ok(());
        }
        kept.extend_from_slice(&piece[..read]);
        let mut at = 0;
        // Whoever sends no frames has nothing to be waited for.
        while let Ok(Some(step)) = walker.step(&kept[at..]) {
            at += step.bytes;
            if matches!(step.event, FrameEvent::End(header) if header.opcode == Opcode::Close) {
                return Ok(());
            }
        }
        kept.drain(..at);
    }
}
