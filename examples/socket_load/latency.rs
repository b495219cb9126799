//! Round trips of pictures on one socket.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::arguments::Latency;
use super::error::LoadError;
use super::message;
use super::picture;
use super::samples::{Samples, milliseconds, write_raw};
use super::socket::PATIENCE;
use super::token::Opener;

/// Sends a picture, waits for its answer, and does so again.
pub(crate) async fn run(task: &Latency) -> Result<(), LoadError> {
    let strokes = picture::strokes(task.side)?;
    let inputs: Vec<_> = (0_u64..).zip(&strokes).map(|(at, stroke)| message::input(task.dialect, stroke, at)).collect();
    let mut socket = Opener::new(task.door.clone()).open().await?;
    let mut times = Samples::default();
    let mut answer_bytes = 0;
    for round in 0..task.warm_up + task.count {
        let number = round as usize % inputs.len();
        let (opcode, input) = &inputs[number];
        let began = Instant::now();
        socket.send(*opcode, input).await?;
        let answer = timeout(PATIENCE, socket.receive()).await.map_err(|_elapsed| LoadError::Late("a picture"))??;
        let took = began.elapsed();
        let shown = message::result(&answer)?;
        if shown.number != number as u64 {
            return Err(LoadError::Answer(format!("picture {} for stroke {number}", shown.number)));
        }
        picture::check(&shown.picture, task.side)?;
        answer_bytes = answer.payload.len();
        if round >= task.warm_up {
            times.add(took);
        }
        // Without it the server would never be idle, which a page at 30 frames a second lets it be.
        sleep(Duration::from_millis(task.pause_ms)).await;
    }
    socket.close().await?;
    write_raw(task.raw.as_deref(), &[("round_trip", &times)])?;
    println!("| one socket, {0}×{0} JPEG | {1} |\n|---|{2}|", task.side, Samples::HEADS, Samples::RULE);
    println!("| {:?} frames, {} bytes in, {answer_bytes} out | {} |", task.dialect, inputs[0].1.len(), times.cells());
    let p95 = times.percentile(95);
    match task.goal_p95_ms {
        Some(goal) if p95.as_secs_f64() * 1e3 > goal => {
            Err(LoadError::Missed(format!("p95 is {} ms, the goal is {goal}", milliseconds(p95))))
        }
        _ => Ok(()),
    }
}
