//! Painters on a real model: one after the other, and sharing calls.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::{Duration, Instant};

use falgate::engine::{Engine, EngineError, EngineSettings, Job, Lane, Order, Picture, Posterior, SafetyCheck, onnx};

use super::{Fault, Paint, places};

/// What one painter got: how long each picture took.
type Times = Vec<Duration>;

/// Lets painters paint by turns in both ways.
pub(crate) fn run(task: &Paint) -> Result<(), Fault> {
    println!("| round | rows a call | pictures/s | median ms | p95 ms | fewest … most of the mean |");
    println!("|---|---:|---:|---:|---:|---|");
    let mut rates = [Vec::new(), Vec::new()];
    for round in 1..=task.rounds {
        for (kind, rows) in [1, task.model.rows].into_iter().enumerate() {
            rates[kind].push(paint(task, (round, rows))?);
        }
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len().max(1) as f64;
    println!("sharing calls gives {:.2} times the pictures", mean(&rates[1]) / mean(&rates[0]));
    Ok(())
}

/// One round; gives its pictures a second.
fn paint(task: &Paint, (round, rows): (usize, usize)) -> Result<f64, Fault> {
    let settings = EngineSettings {
        model: Some(task.model.model.clone()),
        threads: task.model.threads,
        max_batch: NonZeroUsize::new(rows).unwrap_or(NonZeroUsize::MIN),
        warm_up_px: NonZeroU32::new(task.model.size).unwrap_or(NonZeroU32::MIN),
        ..EngineSettings::default()
    };
    let theirs = settings.clone();
    let engine = Engine::start(settings, move |progress| onnx::open(&theirs, &places(), progress));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let span = Duration::from_secs(task.span_s);
    let painted = runtime.block_on(async {
        engine.ready().await?;
        let end = Instant::now() + span;
        let painters = (0..task.painters).map(|number| tokio::spawn(painter(engine.clone(), job(task, number), end)));
        let mut painted: Vec<Times> = Vec::new();
        for painter in painters.collect::<Vec<_>>() {
            painted.push(painter.await.map_err(|_| EngineError::Closed)??);
        }
        engine.close();
        engine.ended().await;
        Ok::<_, EngineError>(painted)
    })?;
    let mut times: Times = painted.iter().flatten().copied().collect();
    times.sort_unstable();
    let rate = times.len() as f64 / span.as_secs_f64();
    let quantile = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let mean = times.len() as f64 / painted.len() as f64;
    let counts = || painted.iter().map(|times| times.len() as f64 / mean);
    println!(
        "| {round} | {rows} | {rate:.2} | {:.0} | {:.0} | {:.2} … {:.2} |",
        quantile(0.5),
        quantile(0.95),
        counts().fold(f64::INFINITY, f64::min),
        counts().fold(0.0, f64::max)
    );
    Ok(rate)
}

fn job(task: &Paint, number: usize) -> Job {
    let side = task.model.size;
    let shade = |index: u32| (index / 31) as u8 ^ number as u8;
    Job {
        picture: Picture::new(side, side, (0..side * side * 3).map(shade).collect()).expect("that length"),
        prompt: format!("a lighthouse at dusk, by painter {number}"),
        strength: 0.5,
        steps: task.steps,
        guidance_scale: 8.0,
        seeds: vec![number as u64],
        posterior: Posterior::Mode,
        start_by: None,
        lane: Lane::new(),
        order: Order::NewestFirst,
        safety: SafetyCheck::Skipped,
    }
}

/// Paints without a pause until `end`; pictures that come later do not count.
async fn painter(engine: Engine, job: Job, end: Instant) -> Result<Times, EngineError> {
    let mut times = Vec::new();
    loop {
        let begun = Instant::now();
        engine.submit(job.clone())?.await?;
        if Instant::now() > end {
            return Ok(times);
        }
        times.push(begun.elapsed());
    }
}
