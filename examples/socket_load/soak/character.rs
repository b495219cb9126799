//! How a socket behaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::malformed::{self, Fate};
use super::tally::Tally;
use crate::arguments::Dialect;
use crate::error::LoadError;
use crate::frame::{Opcode, client_frame};
use crate::message;
use crate::picture;
use crate::socket::Socket;
use crate::token::Opener;

/// How long the gate may take to close a socket that must be closed.
const CLOSES_WITHIN: Duration = Duration::from_secs(15);
/// Pause between two sockets of an actor.
const BETWEEN: Duration = Duration::from_millis(150);

/// Who answers at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gate's engine.
    Engine,
    /// A fake fal that echoes.
    Relayed,
}

/// How a socket behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Character {
    /// Sends strokes and takes pictures, as a page does.
    Painter,
    /// Sends large strokes and takes a few bytes now and then.
    SlowReader,
    /// Begins a message and never ends it.
    StalledWriter,
    /// Sends what may not be sent.
    Malformed,
    /// Sends a stroke and its end of the stream, or vanishes.
    HalfClosed,
    /// Opens, sends, and is gone before the picture comes; and again.
    Reloader,
}

impl Character {
    /// Everybody.
    pub(crate) const ALL: [Self; 6] =
        [Self::Painter, Self::SlowReader, Self::StalledWriter, Self::Malformed, Self::HalfClosed, Self::Reloader];

    /// What a table calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Painter => "painters",
            Self::SlowReader => "slow readers",
            Self::StalledWriter => "stalled writers",
            Self::Malformed => "malformed frames",
            Self::HalfClosed => "half closed",
            Self::Reloader => "page reloaders",
        }
    }
}

/// Frames that everybody sends.
#[derive(Debug)]
pub(crate) struct Material {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl Material {
    /// Paints them.
    pub(crate) fn new() -> Result<Self, LoadError> {
        let frames = |side, dialect| {
            let strokes = picture::strokes(side)?;
            let frames = strokes.iter().zip(0_u64..).map(|(stroke, number)| {
                let (opcode, input) = message::input(dialect, stroke, number);
                let mut frame = Vec::new();
                client_frame(opcode, &input, &mut frame);
                frame
            });
            Ok::<_, LoadError>(frames.collect::<Vec<_>>())
        };
        Ok(Self { small: frames(128, Dialect::Binary)?, large: frames(512, Dialect::Text)? })
    }
}

/// One socket at a time, again and again.
pub(crate) struct Actor {
    pub(crate) character: Character,
    pub(crate) kind: Kind,
    pub(crate) opener: Arc<Opener>,
    pub(crate) material: Arc<Material>,
    pub(crate) until: Instant,
}

impl Actor {
    /// Acts until the end.
    pub(crate) async fn act(self) -> Tally {
        let mut tally = Tally::default();
        let mut round = 0;
        while Instant::now() < self.until {
            let ended = self.one_socket(round, &mut tally).await;
            tally.end(&ended);
            round += 1;
            sleep(BETWEEN).await;
        }
        tally
    }

    async fn one_socket(&self, round: usize, tally: &mut Tally) -> Result<(), LoadError> {
        let socket = self.opener.open().await?;
        tally.opened += 1;
        match self.character {
            Character::Painter => {
                let painted = self.paint(socket, tally).await;
                if painted.is_err() {
                    // Nothing may happen to a painter, not even a close.
                    tally.failed += 1;
                }
                painted
            }
            Character::SlowReader => self.read_slowly(socket, tally).await,
            Character::StalledWriter => self.stall(socket, tally).await,
            Character::Malformed => self.break_rules(socket, round, tally).await,
            Character::HalfClosed => self.half_close(socket, round, tally).await,
            Character::Reloader => self.reload(socket, round, tally).await,
        }
    }

    fn small(&self, number: u64) -> &[u8] {
        &self.material.small[number as usize % self.material.small.len()]
    }

    async fn paint(&self, mut socket: Socket, tally: &mut Tally) -> Result<(), LoadError> {
        while Instant::now() < self.until {
            socket.send_raw(self.small(tally.sent)).await?;
            tally.sent += 1;
            let answer =
                timeout(CLOSES_WITHIN, socket.receive()).await.map_err(|_elapsed| LoadError::Late("a picture"))??;
            if self.kind == Kind::Engine {
                message::result(&answer)?;
            }
            tally.received += 1;
            sleep(Duration::from_millis(400)).await;
        }
        socket.close().await
    }

    async fn read_slowly(&self, mut socket: Socket, tally: &mut Tally) -> Result<(), LoadError> {
        while Instant::now() < self.until {
            let frame = &self.material.large[tally.sent as usize % self.material.large.len()];
            match timeout(Duration::from_secs(5), socket.send_raw(frame)).await {
                Ok(sent) => sent?,
                // The gate takes no more from one who takes nothing: as it should. Half a frame is out, so this one is over.
                Err(_elapsed) => return Ok(()),
            }
            tally.sent += 1;
            socket.trickle(2048)?;
            sleep(Duration::from_millis(400)).await;
        }
        Ok(())
    }

    async fn stall(&self, mut socket: Socket, tally: &mut Tally) -> Result<(), LoadError> {
        let frame = &self.material.large[0];
        socket.send_raw(&frame[..frame.len() / 2]).await?;
        tally.sent += 1;
        let patience = self.until.min(Instant::now() + CLOSES_WITHIN);
        match timeout_at(patience, socket.until_closed()).await {
            Ok(_) => Err(LoadError::Closed { code: None, reason: "stalled".to_owned() }),
            Err(_elapsed) => Ok(()),
        }
    }

    async fn break_rules(&self, mut socket: Socket, round: usize, tally: &mut Tally) -> Result<(), LoadError> {
        let all = malformed::all();
        let (_, bytes, fate) = &all[round % all.len()];
        socket.send_raw(bytes).await?;
        tally.sent += 1;
        let answer = match fate {
            Fate::Closed => timeout(CLOSES_WITHIN, socket.until_closed()).await.map(|_| None),
            Fate::Answered => timeout(CLOSES_WITHIN, socket.receive()).await.map(Some),
        };
        match answer {
            Err(_elapsed) => tally.hung += 1,
            Ok(Some(Ok(answer))) if self.kind == Kind::Engine && !message::is_control(&answer) => {
                return Err(LoadError::Answer("a picture for nonsense".to_owned()));
            }
            Ok(Some(Ok(_))) => tally.received += 1,
            Ok(None | Some(Err(_))) => tally.closed += 1,
        }
        Ok(())
    }

    async fn half_close(&self, mut socket: Socket, round: usize, tally: &mut Tally) -> Result<(), LoadError> {
        socket.send_raw(self.small(round as u64)).await?;
        tally.sent += 1;
        match round % 3 {
            // Gone, with a reset.
            0 => return socket.reset(),
            // Only the sending side.
            1 => socket.half_close().await?,
            // In the middle of a frame.
            _ => {
                socket.send_raw(&self.small(0)[..5]).await?;
                socket.half_close().await?;
            }
        }
        match timeout(CLOSES_WITHIN, socket.until_closed()).await {
            Ok(_) => tally.closed += 1,
            Err(_elapsed) => tally.hung += 1,
        }
        Ok(())
    }

    async fn reload(&self, mut socket: Socket, round: usize, tally: &mut Tally) -> Result<(), LoadError> {
        socket.send_raw(self.small(round as u64)).await?;
        tally.sent += 1;
        match round % 3 {
            0 => Ok(()),
            1 => {
                sleep(Duration::from_millis(30)).await;
                socket.send(Opcode::Close, &[]).await
            }
            _ => {
                timeout(CLOSES_WITHIN, socket.receive()).await.map_err(|_elapsed| LoadError::Late("a picture"))??;
                tally.received += 1;
                socket.close().await
            }
        }
    }
}
