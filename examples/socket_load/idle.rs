//! Memory of idle sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::arguments::Idle;
use super::error::LoadError;
use super::frame::Opcode;
use super::process::Process;
use super::socket::{PATIENCE, Socket};
use super::token::Opener;

/// Sockets opened before, so that what is built once is not counted. Few, because their memory may be used again.
const BEFORE: usize = 32;
/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// Opens many sockets, lets them be quiet, and looks at the server's memory.
pub(crate) async fn run(task: &Idle) -> Result<(), LoadError> {
    let opener = Arc::new(Opener::new(task.door.clone()));
    let server = Process(task.pid);
    Crowd::gather(&opener, BEFORE, task.message).await?.leave().await?;
    let settle = || sleep(Duration::from_secs(task.settle_s));
    settle().await;
    let before = server.resident_kib()?;
    let crowd = Crowd::gather(&opener, task.sockets, task.message).await?;
    settle().await;
    let full = server.resident_kib()?;
    crowd.leave().await?;
    settle().await;
    let after = server.resident_kib()?;
    let each = full.saturating_sub(before) as f64 / task.sockets as f64;
    println!(
        "| {} | {} | {} | {each:.2} | {:.1} | {:.1} | {:.1} |",
        task.name,
        task.sockets,
        if task.message > 0 { format!("after {} bytes", task.message) } else { "opened".to_owned() },
        before as f64 / 1024.0,
        full as f64 / 1024.0,
        after as f64 / 1024.0
    );
    match task.goal_kib {
        Some(goal) if each > goal => {
            Err(LoadError::Missed(format!("{} takes {each:.2} KiB a socket, the goal is {goal}", task.name)))
        }
        _ => Ok(()),
    }
}

/// Open sockets, each with a task that keeps it alive.
struct Crowd {
    tasks: JoinSet<Result<(), LoadError>>,
    end: watch::Sender<bool>,
}

impl Crowd {
    async fn gather(opener: &Arc<Opener>, sockets: usize, message: usize) -> Result<Self, LoadError> {
        let (end, ended) = watch::channel(false);
        let doors = Arc::new(Semaphore::new(AT_ONCE));
        let (opened, mut count) = watch::channel(0_usize);
        let opened = Arc::new(opened);
        let payload: Arc<[u8]> = vec![7; message].into();
        let mut tasks = JoinSet::new();
        for _ in 0..sockets {
            let (opener, doors, opened) = (Arc::clone(opener), Arc::clone(&doors), Arc::clone(&opened));
            let (payload, mut ended) = (Arc::clone(&payload), ended.clone());
            tasks.spawn(async move {
                let door = doors.acquire().await.map_err(|_| LoadError::Setup("no doors".to_owned()))?;
                let mut socket = opener.open().await?;
                if !payload.is_empty() {
                    socket.send(Opcode::Binary, &payload).await?;
                    timeout(PATIENCE, socket.receive()).await.map_err(|_elapsed| LoadError::Late("an answer"))??;
                    socket.give_back();
                }
                drop(door);
                opened.send_modify(|count| *count += 1);
                drop(opened);
                tokio::select! {
                    // Nothing is sent to a quiet socket but pings, which are answered.
                    message = keep(&mut socket) => message,
                    () = async { drop(ended.wait_for(|end| *end).await) } => socket.close().await,
                }
            });
        }
        drop(opened);
        tokio::select! {
            _ = count.wait_for(|count| *count == sockets) => Ok(Self { tasks, end }),
            Some(ended) = tasks.join_next() => {
                ended.map_err(|_| LoadError::Setup("a socket's task panicked".to_owned()))??;
                Err(LoadError::Setup("a socket ended before all were open".to_owned()))
            }
        }
    }

    /// Closes all, and fails if one had not lived until now.
    async fn leave(mut self) -> Result<(), LoadError> {
        self.end.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|_| LoadError::Setup("a socket's task panicked".to_owned()))??;
        }
        Ok(())
    }
}

async fn keep(socket: &mut Socket) -> Result<(), LoadError> {
    let message = socket.receive().await?;
    Err(LoadError::Answer(String::from_utf8_lossy(&message.payload).into_owned()))
}
