//! A fal for the relay to talk to: hands out tokens, takes every socket, and echoes each frame.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::arguments::{Answers, Fal};
use super::error::LoadError;
use super::frame::{Header, Opcode, apply_mask};
use super::message;

const LONGEST_HEAD: usize = 32 * 1024;
const LONGEST_BODY: usize = 1024 * 1024;
const LONGEST_FRAME: usize = 32 * 1024 * 1024;
/// Room that a quiet socket may keep.
const KEPT: usize = 256 * 1024;

/// Serves until the process is ended.
pub(crate) async fn run(task: &Fal) -> Result<(), LoadError> {
    if !task.listen.ip().is_loopback() {
        return Err(LoadError::Place(task.listen.to_string()));
    }
    let listener = TcpListener::bind(task.listen).await?;
    let answers = task.answers;
    loop {
        let (stream, _) = listener.accept().await?;
        // Ends with its connection; what went wrong there is the other side's business.
        tokio::spawn(async move { drop(serve(stream, answers).await) });
    }
}

async fn serve(mut stream: TcpStream, answers: Answers) -> Result<(), LoadError> {
    stream.set_nodelay(true)?;
    let mut inbox = Vec::with_capacity(1024);
    while let Some(end) = head(&mut stream, &mut inbox).await? {
        let text = String::from_utf8_lossy(&inbox[..end]).into_owned();
        let field = |name: &str| {
            text.lines().filter_map(|line| line.split_once(':')).find(|(at, _)| at.eq_ignore_ascii_case(name))
        };
        if let Some((_, key)) = field("sec-websocket-key") {
            let accept = derive_accept_key(key.trim().as_bytes());
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            inbox.drain(..end);
            return Frames { stream, inbox, answers }.serve().await;
        }
        let body = field("content-length").and_then(|(_, length)| length.trim().parse().ok()).unwrap_or(0);
        if body > LONGEST_BODY {
            return Ok(());
        }
        while inbox.len() < end + body {
            if stream.read_buf(&mut inbox).await? == 0 {
                return Ok(());
            }
        }
        inbox.drain(..end + body);
        // What fal's token route answers: the token alone, as a JSON string.
        let answer = "\"token-of-the-fake-fal\"";
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all([head.as_bytes(), answer.as_bytes()].concat().as_slice()).await?;
    }
    Ok(())
}

/// Reads until a whole head is there, and gives its length.
async fn head(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<Option<usize>, LoadError> {
    loop {
        if let Some(at) = inbox.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if inbox.len() > LONGEST_HEAD || stream.read_buf(inbox).await? == 0 {
            return Ok(None);
        }
    }
}

struct Frames {
    stream: TcpStream,
    inbox: Vec<u8>,
    answers: Answers,
}

impl Frames {
    async fn serve(mut self) -> Result<(), LoadError> {
        let fixed = match self.answers {
            Answers::Fixed(bytes) => Some(Arc::<[u8]>::from(vec![b'x'; bytes])),
            Answers::Echo | Answers::Nothing | Answers::Pictures => None,
        };
        loop {
            let Some(header) = Header::read(&self.inbox)? else {
                if self.stream.read_buf(&mut self.inbox).await? == 0 {
                    return Ok(());
                }
                continue;
            };
            let whole = header.header_len + header.payload_len;
            if whole > LONGEST_FRAME {
                return Err(LoadError::Frame("too long"));
            }
            self.inbox.reserve(whole.saturating_sub(self.inbox.len()));
            while self.inbox.len() < whole {
                if self.stream.read_buf(&mut self.inbox).await? == 0 {
                    return Ok(());
                }
            }
            let Some(mask) = header.mask else { return Err(LoadError::Frame("a client's frame is not masked")) };
            apply_mask(&mut self.inbox[header.header_len..whole], mask);
            self.answer(&header, fixed.as_deref()).await?;
            self.inbox.drain(..whole);
            if self.inbox.is_empty() && self.inbox.capacity() > KEPT {
                self.inbox = Vec::new();
            }
            if header.opcode == Opcode::Close {
                return Ok(self.stream.shutdown().await?);
            }
        }
    }

    async fn answer(&mut self, asked: &Header, fixed: Option<&[u8]>) -> Result<(), LoadError> {
        let given = &self.inbox[asked.header_len..asked.header_len + asked.payload_len];
        let picture;
        let (opcode, payload) = match (asked.opcode, self.answers) {
            (Opcode::Pong, _) | (Opcode::Text | Opcode::Binary | Opcode::Continuation, Answers::Nothing) => {
                return Ok(());
            }
            (Opcode::Ping, _) => (Opcode::Pong, given),
            (Opcode::Close, _) | (_, Answers::Echo) => (asked.opcode, given),
            (_, Answers::Pictures) => {
                picture = message::returned(asked.opcode, given)?;
                (asked.opcode, picture.as_slice())
            }
            (_, Answers::Fixed(_)) if !asked.last => return Ok(()),
            (_, Answers::Fixed(_)) => (Opcode::Binary, fixed.unwrap_or_default()),
        };
        let last = asked.last || opcode != asked.opcode;
        let mut head = Vec::with_capacity(16);
        Header { last, opcode, mask: None, header_len: 0, payload_len: payload.len() }.write(&mut head);
        let mut both = bytes::Buf::chain(&head[..], payload);
        self.stream.write_all_buf(&mut both).await?;
        Ok(())
    }
}
