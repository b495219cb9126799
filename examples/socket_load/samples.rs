//! Times that were measured, what they come to, and the raw numbers in a file.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::error::LoadError;

/// Measured times, in the order they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// Keeps one more.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Keeps all of another's too.
    pub(crate) fn join(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// The time that `percent` of all do not exceed, by nearest rank. Zero without any.
    pub(crate) fn percentile(&self, percent: u32) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent as usize).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Cells of a Markdown row: p50, p95, p99, greatest, and how many.
    pub(crate) fn cells(&self) -> String {
        let ms = |percent| milliseconds(self.percentile(percent));
        format!("{} | {} | {} | {} | {}", ms(50), ms(95), ms(99), ms(100), self.count())
    }

    /// Heads of those cells.
    pub(crate) const HEADS: &str = "p50 ms | p95 ms | p99 ms | max ms | samples";
    /// How those columns are set.
    pub(crate) const RULE: &str = "---:|---:|---:|---:|---:";
}

/// A time as a table shows it.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// Writes columns of raw times, in microseconds, as a file of comma-separated values.
pub(crate) fn write_raw(file: Option<&Path>, columns: &[(&str, &Samples)]) -> Result<(), LoadError> {
    let Some(file) = file else { return Ok(()) };
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("{name}_us")).collect();
    let mut text = format!("{}\n", names.join(","));
    for row in 0..columns.iter().map(|(_, samples)| samples.count()).max().unwrap_or(0) {
        for (at, (_, samples)) in columns.iter().enumerate() {
            let cell = samples.0.get(row).map_or_else(String::new, |time| time.as_micros().to_string());
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{cell}", if at == 0 { "" } else { "," });
        }
        text.push('\n');
    }
    Ok(std::fs::write(file, text)?)
}
