//! The end of a socket: last words and close in one write, then a moment for the page's own close.

use std::time::Duration;

use futures_util::SinkExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::end::End;
use super::line::Line;
use super::settings::Farewell;

/// Longest time for the last words to leave, and as long again for the page's answer.
const GRACE: Duration = Duration::from_secs(2);
/// What may still come before a socket is cut off.
const LINGER_BYTES: usize = 256 * 1024;

/// Ends a socket.
pub(super) async fn farewell(line: Line, end: End, farewell: Farewell) {
    match end {
        End::Lost | End::Stalled | End::Dead => {}
        // Whoever does not take it has gone, and the line is dropped in any case.
        End::Closed | End::ClosedPlainly => drop(timeout(GRACE, answer_close(line, end)).await),
        End::Breach(_) | End::Idle | End::Old | End::Drained | End::Failed => say_goodbye(line, end, farewell).await,
    }
}

async fn answer_close(mut line: Line, end: End) {
    if end == End::ClosedPlainly {
        line.get_mut().fill_plain_close();
    }
    drop(line.flush().await);
    drop(line.get_mut().shutdown().await);
}

async fn say_goodbye(mut line: Line, end: End, farewell: Farewell) {
    let Some((text, code)) = end.words(farewell) else { return };
    let saying = async {
        if let Some(text) = text {
            line.feed(Message::text(text)).await?;
        }
        line.send(Message::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))).await
    };
    if matches!(timeout(GRACE, saying).await, Ok(Ok(()))) {
        // Unread bytes would turn the close into a reset, and the last words would be lost.
        drop(timeout(GRACE, linger(&mut line)).await);
        drop(timeout(GRACE, line.get_mut().shutdown()).await);
    }
}

/// Reads on until the page has closed too.
async fn linger(line: &mut Line) {
    let stream = line.get_mut();
    let mut unread = [0; 1024];
    let mut sum = 0;
    while !stream.meter.closed && sum < LINGER_BYTES {
        match stream.read(&mut unread).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => sum += bytes,
        }
    }
}
