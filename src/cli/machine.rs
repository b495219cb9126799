//! What this machine is, and what memory is taken on it, as far as it says.

use std::process::Command;

use falgate::engine::Provider;
use serde::Serialize;

/// The machine that numbers were taken on.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) system: String,
    pub(super) gpu: Option<String>,
    /// Load over the last minute, before the measurement's own has passed out of it.
    pub(super) load: Option<f64>,
    pub(super) falgate: &'static str,
    /// Whether this program was built with optimisation.
    pub(super) build: &'static str,
}

impl Machine {
    /// This machine; its GPU where the provider is one.
    pub(super) fn here(provider: Provider, device: u32) -> Self {
        let processor = read("/proc/cpuinfo").and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            system: format!("{} {}", std::env::consts::OS, kernel.trim()).trim().to_owned(),
            gpu: (provider == Provider::Cuda).then(|| nvidia("name,driver_version,memory.total", device)).flatten(),
            load: read("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            falgate: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Resident memory of this process.
pub(super) fn process_bytes() -> Option<u64> {
    let status = read("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Memory that is taken on a device, by this and all other programs.
pub(super) fn device_bytes(provider: Provider, device: u32) -> Option<u64> {
    if provider != Provider::Cuda {
        return None;
    }
    let mib: u64 = nvidia("memory.used", device)?.trim_end_matches("MiB").trim().parse().ok()?;
    Some(mib * 1024 * 1024)
}

/// Asks the driver's own tool.
fn nvidia(what: &str, device: u32) -> Option<String> {
    let query = format!("--query-gpu={what}");
    let device = device.to_string();
    let asked = Command::new("nvidia-smi").args([&query, "--format=csv,noheader", "-i", &device]).output().ok()?;
    let said = String::from_utf8(asked.stdout).ok().filter(|_| asked.status.success())?;
    Some(said.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_has_no_device_memory_and_the_process_has_some() {
        assert_eq!(device_bytes(Provider::Cpu, 0), None);
        if cfg!(target_os = "linux") {
            assert!(process_bytes().unwrap() > 100_000);
        }
        assert!(Machine::here(Provider::Cpu, 0).gpu.is_none());
    }
}
