//! A WebSocket client that does no more than the measurements need.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::LoadError;
use super::frame::{Header, Opcode, client_frame};
use super::place::Place;

/// Longest wait for a handshake or a close. The machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const LONGEST_HEAD: usize = 16 * 1024;

/// A message, or a control frame.
#[derive(Debug)]
pub(crate) struct Message {
    /// What it is. Never a continuation: fragments are joined.
    pub(crate) opcode: Opcode,
    /// What it says.
    pub(crate) payload: Bytes,
}

/// An open socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    inbox: BytesMut,
    outbox: Vec<u8>,
    fragments: Option<(Opcode, BytesMut)>,
}

impl Socket {
    /// Connects and shakes hands.
    pub(crate) async fn open(place: &Place) -> Result<Self, LoadError> {
        timeout(PATIENCE, Self::shake_hands(place)).await.map_err(|_elapsed| LoadError::Late("a handshake"))?
    }

    async fn shake_hands(place: &Place) -> Result<Self, LoadError> {
        let mut stream = TcpStream::connect(place.address).await?;
        stream.set_nodelay(true)?;
        let Place { host, path, .. } = place;
        let authorization = place.authorization_line();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut inbox = BytesMut::with_capacity(1024);
        let end = loop {
            if let Some(at) = inbox.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if inbox.len() > LONGEST_HEAD || stream.read_buf(&mut inbox).await? == 0 {
                return Err(LoadError::Handshake("nothing whole".to_owned()));
            }
        };
        let head = inbox.split_to(end);
        if !head.starts_with(b"HTTP/1.1 101") {
            let head = String::from_utf8_lossy(&head);
            return Err(LoadError::Handshake(head.lines().next().unwrap_or_default().to_owned()));
        }
        Ok(Self { stream, inbox, outbox: Vec::new(), fragments: None })
    }

    /// Sends one message or control frame.
    pub(crate) async fn send(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), LoadError> {
        self.outbox.clear();
        client_frame(opcode, payload, &mut self.outbox);
        self.stream.write_all(&self.outbox).await?;
        Ok(())
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        self.stream.write_all(bytes).await?;
        Ok(())
    }

    /// Sends no more. What the other side sends can still be read.
    pub(crate) async fn half_close(&mut self) -> Result<(), LoadError> {
        self.stream.shutdown().await?;
        Ok(())
    }

    /// Ends with a reset instead of a goodbye.
    pub(crate) fn reset(self) -> Result<(), LoadError> {
        self.stream.set_zero_linger()?;
        Ok(())
    }

    /// Takes a few bytes off the wire, if there are any, and forgets them.
    pub(crate) fn trickle(&mut self, most: usize) -> Result<(), LoadError> {
        match self.stream.try_read(&mut vec![0; most]) {
            Ok(0) => Err(LoadError::Closed { code: None, reason: "without a close frame".to_owned() }),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next message or control frame. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Message, LoadError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(LoadError::Closed { code: None, reason: "without a close frame".to_owned() });
            }
        }
    }

    /// The next text or binary message. Pings are answered; a close is an error.
    pub(crate) async fn receive(&mut self) -> Result<Message, LoadError> {
        loop {
            let message = self.next().await?;
            if self.tend(&message).await? {
                return Ok(message);
            }
        }
    }

    /// Does what a control frame asks for. True for a message.
    pub(crate) async fn tend(&mut self, message: &Message) -> Result<bool, LoadError> {
        match message.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => Ok(true),
            Opcode::Pong => Ok(false),
            Opcode::Ping => self.send(Opcode::Pong, &message.payload).await.map(|()| false),
            Opcode::Close => {
                let code = message.payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code));
                let reason = message.payload.get(2..).unwrap_or_default();
                Err(LoadError::Closed { code, reason: String::from_utf8_lossy(reason).into_owned() })
            }
        }
    }

    /// Says goodbye and waits until the other side has hung up.
    pub(crate) async fn close(mut self) -> Result<(), LoadError> {
        self.send(Opcode::Close, &1000_u16.to_be_bytes()).await?;
        match timeout(PATIENCE, self.until_closed()).await {
            Ok(ended) => ended,
            Err(_elapsed) => Err(LoadError::Late("a close")),
        }
    }

    /// Reads until the other side has hung up.
    pub(crate) async fn until_closed(&mut self) -> Result<(), LoadError> {
        loop {
            self.inbox.clear();
            match self.stream.read_buf(&mut self.inbox).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives back buffers that stay grown after a large message.
    pub(crate) fn give_back(&mut self) {
        self.outbox = Vec::new();
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
    }

    /// Takes a message out of what has been read.
    fn take(&mut self) -> Result<Option<Message>, LoadError> {
        while let Some(header) = Header::read(&self.inbox)? {
            let whole = header.header_len + header.payload_len;
            if self.inbox.len() < whole {
                self.inbox.reserve(whole - self.inbox.len());
                return Ok(None);
            }
            if header.mask.is_some() {
                return Err(LoadError::Frame("a server's frame is masked"));
            }
            self.inbox.advance(header.header_len);
            let payload = self.inbox.split_to(header.payload_len);
            match (header.opcode, self.fragments.take()) {
                (Opcode::Close | Opcode::Ping | Opcode::Pong, fragments) => {
                    self.fragments = fragments;
                    return Ok(Some(Message { opcode: header.opcode, payload: payload.freeze() }));
                }
                (Opcode::Continuation, None) => return Err(LoadError::Frame("a continuation of nothing")),
                (Opcode::Text | Opcode::Binary, Some(_)) => return Err(LoadError::Frame("a message inside another")),
                (opcode @ (Opcode::Text | Opcode::Binary), None) if header.last => {
                    return Ok(Some(Message { opcode, payload: payload.freeze() }));
                }
                (opcode @ (Opcode::Text | Opcode::Binary), None) => self.fragments = Some((opcode, payload)),
                (Opcode::Continuation, Some((opcode, mut whole))) => {
                    whole.extend_from_slice(&payload);
                    if header.last {
                        return Ok(Some(Message { opcode, payload: whole.freeze() }));
                    }
                    self.fragments = Some((opcode, whole));
                }
            }
        }
        Ok(None)
    }
}
