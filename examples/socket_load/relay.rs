//! What the relay adds to the round trip of a frame.

use tokio::time::{Instant, timeout};

use super::arguments::Relay;
use super::error::LoadError;
use super::frame::Opcode;
use super::samples::{Samples, milliseconds, write_raw};
use super::socket::{PATIENCE, Socket};
use super::token::Opener;

/// Sends frames through the relay and past it in turn, so that whatever else the machine does meets both.
pub(crate) async fn run(task: &Relay) -> Result<(), LoadError> {
    let mut relayed = Opener::new(task.door.clone()).open().await?;
    let mut direct = Socket::open(&task.direct).await?;
    let payload: Vec<u8> = (0..task.bytes).map(|at| (at % 251) as u8).collect();
    let (mut through, mut past) = (Samples::default(), Samples::default());
    for round in 0..task.warm_up + task.count {
        let (past_took, through_took) = if round % 2 == 0 {
            let past = echo(&mut direct, &payload).await?;
            (past, echo(&mut relayed, &payload).await?)
        } else {
            let through = echo(&mut relayed, &payload).await?;
            (echo(&mut direct, &payload).await?, through)
        };
        if round >= task.warm_up {
            past.add(past_took);
            through.add(through_took);
        }
    }
    relayed.close().await?;
    direct.close().await?;
    write_raw(task.raw.as_deref(), &[("direct", &past), ("relayed", &through)])?;
    println!("| {} bytes there and back | {} |\n|---|{}|", task.bytes, Samples::HEADS, Samples::RULE);
    println!("| direct | {} |\n| relayed | {} |", past.cells(), through.cells());
    let added = |percent| through.percentile(percent).saturating_sub(past.percentile(percent));
    println!("\nThe relay adds {} ms at p50, {} ms at p95.", milliseconds(added(50)), milliseconds(added(95)));
    match task.goal_added_ms {
        Some(goal) if added(50).as_secs_f64() * 1e3 > goal => {
            Err(LoadError::Missed(format!("the relay adds {} ms at p50, the goal is {goal}", milliseconds(added(50)))))
        }
        _ => Ok(()),
    }
}

async fn echo(socket: &mut Socket, payload: &[u8]) -> Result<std::time::Duration, LoadError> {
    let began = Instant::now();
    socket.send(Opcode::Binary, payload).await?;
    let answer = timeout(PATIENCE, socket.receive()).await.map_err(|_elapsed| LoadError::Late("an echo"))??;
    let took = began.elapsed();
    if answer.payload == payload { Ok(took) } else { Err(LoadError::Answer("another payload".to_owned())) }
}
