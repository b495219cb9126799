//! The waiting room as calls use it: they ask for a place and wait for it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::metrics::WaitingMetrics;
use super::room::{Answer, Room, Standing};
use super::settings::WaitingSettings;
use crate::guard::Subject;

/// Whose tabs share a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Guest {
    /// A caller with a name.
    Caller(Arc<str>),
    /// Whoever comes from an address, or from one /64 of IPv6.
    Address(IpAddr),
}

impl Guest {
    /// The guest that a call is of.
    #[must_use]
    pub fn of(subject: &Subject) -> Self {
        match (&subject.caller, subject.address.to_canonical()) {
            (Some(caller), _) => Self::Caller(Arc::clone(caller)),
            (None, IpAddr::V6(v6)) => Self::Address(IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into())),
            (None, v4) => Self::Address(v4),
        }
    }
}

/// Why a call got no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// Its turn has not come. Its place in the queue is kept for a while.
    #[error("number {} in the queue", .standing.place)]
    Waits {
        /// Where it stands.
        standing: Standing,
        /// Back before this many seconds, it has its place in the queue.
        back_s: u64,
    },
    /// Too many wait.
    #[error("too many callers wait")]
    Full,
    /// The gate drains.
    #[error("nobody is let in any more")]
    Closing,
}

/// How a call waits.
#[derive(Debug)]
pub struct Wait {
    /// Who waits.
    pub guest: Guest,
    /// Until when; `None` for as long as it takes.
    pub until: Option<Instant>,
    /// True once nobody is let in any more.
    pub drain: Option<watch::Receiver<bool>>,
}

/// The room. Clones share it.
#[derive(Debug, Clone)]
pub struct WaitingRoom(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: Mutex<Room>,
    changed: watch::Sender<u64>,
    grace_s: u64,
    metrics: WaitingMetrics,
}

impl WaitingRoom {
    /// An empty room.
    #[must_use]
    pub fn new(settings: &WaitingSettings, metrics: WaitingMetrics) -> Self {
        let (changed, _) = watch::channel(0);
        let (room, grace_s) = (Mutex::new(Room::new(settings)), settings.grace_s.get());
        Self(Arc::new(Inner { room, changed, grace_s, metrics }))
    }

    /// Waits for a place. `tell` hears how the call stands, first and whenever that changes. Dropping the future leaves the
    /// queue, with time to come back.
    ///
    /// # Errors
    /// [`Turned`].
    pub async fn enter(&self, wait: Wait, mut tell: impl FnMut(Standing)) -> Result<Place, Turned> {
        let Wait { guest, until, drain } = wait;
        let began = Instant::now();
        let mut changes = self.0.changed.subscribe();
        let mut answer = self.0.with(|room| room.come(&guest, began));
        if answer == Answer::Seated {
            return Ok(Place { room: self.clone(), guest });
        }
        let mut drained = std::pin::pin!(drained(drain));
        let mut present = Present { room: self, guest: &guest, is_waiting: answer != Answer::Full };
        let mut told = None;
        loop {
            let standing = match answer {
                Answer::Seated => break,
                Answer::Waits(standing) => standing,
                Answer::Full => {
                    present.is_waiting = false;
                    self.0.metrics.full();
                    return Err(Turned::Full);
                }
            };
            if told != Some(standing.place) {
                told = Some(standing.place);
                tell(standing);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                self.0.metrics.told();
                return Err(Turned::Waits { standing, back_s: self.0.grace_s });
            }
            let next = [self.0.lock().next_change(Instant::now()), until].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = &mut drained => return Err(Turned::Closing),
                _ = changes.changed() => {}
                () = at(next) => {}
            }
            answer = self.0.with(|room| room.look(&guest, Instant::now()));
        }
        present.is_waiting = false;
        drop(present);
        self.0.metrics.waited(began.elapsed());
        Ok(Place { room: self.clone(), guest })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something in the room, and wakes who waits if that changed anything.
    fn with<T>(&self, act: impl FnOnce(&mut Room) -> T) -> T {
        let (done, version, count) = {
            let mut room = self.lock();
            let done = act(&mut room);
            (done, room.version(), room.count())
        };
        self.metrics.now(count.0, count.1);
        self.changed.send_if_modified(|known| std::mem::replace(known, version) != version);
        done
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn drained(drain: Option<watch::Receiver<bool>>) {
    if let Some(mut drain) = drain
        && drain.wait_for(|drains| *drains).await.is_ok()
    {
        return;
    }
    // Nobody would say so: then nobody drains.
    std::future::pending::<()>().await;
}

/// A call in the queue.
struct Present<'a> {
    room: &'a WaitingRoom,
    guest: &'a Guest,
    is_waiting: bool,
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        if self.is_waiting {
            self.room.0.with(|room| room.leave(self.guest, Instant::now()));
        }
    }
}

/// A place in use. Dropped, it rests, and is somebody else's after a while.
#[derive(Debug)]
pub struct Place {
    room: WaitingRoom,
    guest: Guest,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.0.with(|room| room.done(&self.guest, Instant::now()));
    }
}
