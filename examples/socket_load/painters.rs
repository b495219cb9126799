//! Many painters at once: when each stroke shows, who comes short, and what shows out of order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::arguments::{Dialect, Painters};
use super::error::LoadError;
use super::message;
use super::picture::{self, Stroke};
use super::samples::{Samples, milliseconds, write_raw};
use super::socket::Socket;
use super::token::Opener;

/// How long strokes of the last moment are waited for.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// What one painter saw.
#[derive(Debug, Default)]
struct Seen {
    /// For each stroke, the time until it or a newer one showed.
    ages: Samples,
    sent: u64,
    shown: u64,
    /// Pictures of an older stroke than the one that showed already.
    stale: u64,
    /// Strokes that never showed, nor any newer one.
    lost: usize,
}

/// Lets painters paint.
pub(crate) async fn run(task: &Painters) -> Result<(), LoadError> {
    let strokes = Arc::new(picture::strokes(task.side)?);
    let opener = Opener::new(task.door.clone());
    let every = Duration::from_secs(1) / task.rate;
    let start = Instant::now() + Duration::from_secs(1);
    let mut painters = Vec::new();
    for at in 0..task.painters {
        let socket = opener.open().await?;
        // Nobody paints in step with the others.
        let first = start + every * at / task.painters;
        let painter = Painter { strokes: Arc::clone(&strokes), dialect: task.dialect, side: task.side, every, first };
        let until = start + Duration::from_secs(task.seconds);
        painters.push(tokio::spawn(async move { painter.paint(socket, until).await }));
    }
    let mut all = Vec::new();
    for painter in painters {
        all.push(painter.await.map_err(|_| LoadError::Setup("a painter panicked".to_owned()))??);
    }
    report(task, &all)
}

struct Painter {
    strokes: Arc<Vec<Stroke>>,
    dialect: Dialect,
    side: u32,
    every: Duration,
    first: Instant,
}

impl Painter {
    async fn paint(self, mut socket: Socket, until: Instant) -> Result<Seen, LoadError> {
        let mut seen = Seen::default();
        let mut waiting: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut newest = None;
        let mut clock = interval_at(self.first, self.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let is_painting = Instant::now() < until;
            if !is_painting && waiting.is_empty() {
                break;
            }
            let message = tokio::select! {
                _ = clock.tick(), if is_painting => {
                    let number = seen.sent;
                    let stroke = &self.strokes[number as usize % self.strokes.len()];
                    let (opcode, input) = message::input(self.dialect, stroke, number);
                    waiting.push_back((number, Instant::now()));
                    socket.send(opcode, &input).await?;
                    seen.sent += 1;
                    continue;
                }
                message = timeout_at(until + AFTERWARDS, socket.next()) => message,
            };
            let Ok(message) = message else { break };
            let message = message?;
            if !socket.tend(&message).await? {
                continue;
            }
            let shown_at = Instant::now();
            let shown = message::result(&message)?;
            if newest.is_none() {
                picture::check(&shown.picture, self.side)?;
            }
            seen.shown += 1;
            if newest.is_some_and(|newest| shown.number < newest) {
                seen.stale += 1;
                continue;
            }
            newest = Some(shown.number);
            while waiting.front().is_some_and(|(number, _)| *number <= shown.number) {
                if let Some((_, sent_at)) = waiting.pop_front() {
                    seen.ages.add(shown_at - sent_at);
                }
            }
        }
        seen.lost = waiting.len();
        socket.close().await?;
        Ok(seen)
    }
}

fn report(task: &Painters, all: &[Seen]) -> Result<(), LoadError> {
    let mut ages = Samples::default();
    all.iter().for_each(|seen| ages.join(&seen.ages));
    let rate = |shown: u64| shown as f64 / task.seconds as f64;
    let mean = rate(all.iter().map(|seen| seen.shown).sum()) / all.len() as f64;
    let least = rate(all.iter().map(|seen| seen.shown).min().unwrap_or(0));
    let most = rate(all.iter().map(|seen| seen.shown).max().unwrap_or(0));
    let (sent, stale): (u64, u64) = all.iter().fold((0, 0), |sum, seen| (sum.0 + seen.sent, sum.1 + seen.stale));
    let lost: usize = all.iter().map(|seen| seen.lost).sum();
    write_raw(task.raw.as_deref(), &[("age", &ages)])?;
    println!(
        "| {} painters, {}/s each, {} s | {} | pictures/s: mean | least | most | stale | lost |",
        task.painters,
        task.rate,
        task.seconds,
        Samples::HEADS
    );
    println!("|---|{}|---:|---:|---:|---:|---:|", Samples::RULE);
    println!(
        "| stroke sent to stroke visible, {sent} sent | {} | {mean:.2} | {least:.2} | {most:.2} | {stale} | {lost} |",
        ages.cells()
    );
    let Some(goal) = task.goal_p95_ms else { return Ok(()) };
    let p95 = ages.percentile(95);
    let mut missed = Vec::new();
    if p95.as_secs_f64() * 1e3 > goal {
        missed.push(format!("p95 is {} ms, the goal is {goal}", milliseconds(p95)));
    }
    if least < mean / 2.0 {
        missed.push(format!("one painter got {least:.2} pictures a second, the mean is {mean:.2}"));
    }
    if stale + lost as u64 > 0 {
        missed.push(format!("{stale} stale pictures, {lost} strokes that never showed"));
    }
    LoadError::unless_missed(&missed)
}
