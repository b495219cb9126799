//! CPU and round trip of messages through several tunnels, in turn.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::arguments::{Door, Tunnel, Way};
use super::error::LoadError;
use super::frame::{Opcode, client_frame};
use super::process::Process;
use super::samples::Samples;
use super::socket::{PATIENCE, Socket};
use super::token::Opener;

/// What one turn of one way came to.
#[derive(Debug, Clone, Copy)]
struct Turn {
    cpu_us: f64,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Lets every way have its turn in every round.
pub(crate) async fn run(task: &Tunnel) -> Result<(), LoadError> {
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); task.ways.len()];
    for round in 0..=task.rounds {
        let mut order: Vec<usize> = (0..task.ways.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let turn = take_turn(task, &task.ways[at]).await?;
            // The first round warms everybody up.
            if round > 0 {
                turns[at].push(turn);
            }
        }
    }
    write_raw(task, &turns)?;
    report(task, &turns)
}

async fn take_turn(task: &Tunnel, way: &Way) -> Result<Turn, LoadError> {
    let (tokens, key) = if way.name == "falgate" { (task.tokens.clone(), task.key.clone()) } else { (None, None) };
    let door = Door { url: way.place.clone(), tokens, key, app: task.app.clone(), sockets_per_token: 32 };
    let opener = Opener::new(door);
    let mut frame = Vec::new();
    client_frame(Opcode::Binary, &vec![b'x'; task.bytes], &mut frame);
    let frame: std::sync::Arc<[u8]> = frame.into();
    let mut sockets = Vec::new();
    for _ in 0..task.sockets {
        sockets.push(opener.open().await?);
    }
    let before = way.pid.map(|pid| Process(pid).processor_time()).transpose()?;
    let began = Instant::now();
    let until = began + Duration::from_secs(task.seconds);
    let bytes = task.bytes;
    let players = sockets.into_iter().map(|socket| tokio::spawn(play(socket, frame.clone(), bytes, until)));
    let mut times = Samples::default();
    let mut sockets = Vec::new();
    for player in players.collect::<Vec<_>>() {
        let (socket, own) = player.await.map_err(|_| LoadError::Setup("a player panicked".to_owned()))??;
        times.join(&own);
        sockets.push(socket);
    }
    let elapsed = began.elapsed();
    let after = way.pid.map(|pid| Process(pid).processor_time()).transpose()?;
    for socket in sockets {
        socket.close().await?;
    }
    let cpu = after.unwrap_or_default().saturating_sub(before.unwrap_or_default());
    let count = times.count() as f64;
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Turn {
        cpu_us: us(cpu) / count,
        rate: count / elapsed.as_secs_f64(),
        p50_us: us(times.percentile(50)),
        p99_us: us(times.percentile(99)),
    })
}

/// Sends a message and waits for its echo, until the time is over.
async fn play(
    mut socket: Socket,
    frame: std::sync::Arc<[u8]>,
    bytes: usize,
    until: Instant,
) -> Result<(Socket, Samples), LoadError> {
    let mut times = Samples::default();
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok((socket, times));
        }
        socket.send_raw(&frame).await?;
        let answer = timeout(PATIENCE, socket.receive()).await.map_err(|_elapsed| LoadError::Late("an echo"))??;
        if answer.payload.len() != bytes {
            return Err(LoadError::Answer(format!("{} bytes for {bytes}", answer.payload.len())));
        }
        times.add(began.elapsed());
    }
}

fn median(turns: &[Turn], value: fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(task: &Tunnel, turns: &[Vec<Turn>]) -> Result<(), LoadError> {
    let named = |name: &str| task.ways.iter().position(|way| way.name == name);
    let cpu = |at: usize| median(&turns[at], |turn| turn.cpu_us);
    let trip = |at: usize| median(&turns[at], |turn| turn.p50_us);
    let nginx = named("nginx");
    println!(
        "| {} bytes there and back, {} at once | CPU µs | to nginx | round trip p50 µs | to nginx | p99 µs | per second |",
        task.bytes, task.sockets
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (at, way) in task.ways.iter().enumerate() {
        let to_nginx = |value: f64, of_nginx: Option<f64>| {
            of_nginx.map_or_else(|| "–".to_owned(), |nginx| format!("{:.2}", value / nginx))
        };
        let (own_cpu, cpu_ratio) = match way.pid {
            Some(_) => (format!("{:.1}", cpu(at)), to_nginx(cpu(at), nginx.map(cpu))),
            None => ("–".to_owned(), "–".to_owned()),
        };
        println!(
            "| {} | {own_cpu} | {cpu_ratio} | {:.0} | {} | {:.0} | {:.0} |",
            way.name,
            trip(at),
            to_nginx(trip(at), nginx.map(trip)),
            median(&turns[at], |turn| turn.p99_us),
            median(&turns[at], |turn| turn.rate),
        );
    }
    let (Some(goal), Some(nginx), Some(falgate)) = (task.goal_ratio, nginx, named("falgate")) else { return Ok(()) };
    let ratio = cpu(falgate) / cpu(nginx);
    if ratio > goal {
        Err(LoadError::Missed(format!("CPU is {ratio:.2} of nginx, the goal is {goal}")))
    } else {
        Ok(())
    }
}

fn write_raw(task: &Tunnel, turns: &[Vec<Turn>]) -> Result<(), LoadError> {
    let Some(file) = &task.raw else { return Ok(()) };
    let mut text = "way,round,cpu_us,per_second,p50_us,p99_us\n".to_owned();
    for (way, turns) in task.ways.iter().zip(turns) {
        for (round, Turn { cpu_us, rate, p50_us, p99_us }) in turns.iter().enumerate() {
            text.push_str(&format!("{},{round},{cpu_us:.2},{rate:.1},{p50_us:.1},{p99_us:.1}\n", way.name));
        }
    }
    Ok(std::fs::write(file, text)?)
}
