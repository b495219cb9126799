//! The gate's memory over the soak.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::LoadError;
use crate::process::Process;

/// Samples that are still the start: pools and caches fill.
const START: usize = 10;

/// A sample a second.
#[derive(Debug)]
pub(crate) struct Memory(Vec<u64>);

impl Memory {
    /// Samples until then.
    pub(crate) async fn watch(gate: Process, until: Instant) -> Result<Self, LoadError> {
        let mut samples = vec![gate.resident_kib()?];
        while Instant::now() + Duration::from_secs(1) < until {
            sleep(Duration::from_secs(1)).await;
            samples.push(gate.resident_kib()?);
        }
        Ok(Self(samples))
    }

    fn start(&self) -> usize {
        START.min(self.0.len() / 4)
    }

    /// How much more the last quarter has than the time right after the start, in KiB. Means, because memory breathes.
    pub(crate) fn growth_kib(&self) -> u64 {
        let quarter = (self.0.len() / 4).max(1);
        let mean = |samples: &[u64]| samples.iter().sum::<u64>() / samples.len().max(1) as u64;
        let early = self.0.iter().skip(self.start()).take(quarter).copied().collect::<Vec<_>>();
        mean(&self.0[self.0.len() - quarter..]).saturating_sub(mean(&early))
    }

    /// Prints before, start, middle, end, greatest and after.
    pub(crate) fn print(&self, before: u64, after: u64) {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        let at = |index: usize| mib(self.0.get(index).copied().unwrap_or_default());
        println!("\n| resident, MiB | before | start | middle | end | greatest | all gone |");
        println!("|---|---:|---:|---:|---:|---:|---:|");
        println!(
            "| gate | {} | {} | {} | {} | {} | {} |\n",
            mib(before),
            at(self.start()),
            at(self.0.len() / 2),
            at(self.0.len() - 1),
            mib(self.0.iter().copied().max().unwrap_or_default()),
            mib(after)
        );
    }

    /// Writes a line a second.
    pub(crate) fn write_raw(&self, file: Option<&Path>) -> Result<(), LoadError> {
        let Some(file) = file else { return Ok(()) };
        let lines = self.0.iter().enumerate().map(|(second, kib)| format!("{second},{kib}\n"));
        Ok(std::fs::write(file, format!("second,resident_kib\n{}", lines.collect::<String>()))?)
    }
}
