//! What the system knows about a party of the measurement, and what the party says about itself.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::error::LoadError;
use super::place::Place;
use super::socket::PATIENCE;

/// A process that is watched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    fn read(self, name: &str) -> Result<String, LoadError> {
        let file = self.file(name);
        std::fs::read_to_string(&file).map_err(|cause| LoadError::Setup(format!("{}: {cause}", file.display())))
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(self) -> Result<u64, LoadError> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kib.ok_or_else(|| LoadError::Setup(format!("process {} has no memory", self.0)))
    }

    /// User and system time of the process and of its children that live, as nginx's workers do. In steps of 10 ms.
    pub(crate) fn processor_time(self) -> Result<Duration, LoadError> {
        let mut ticks = self.own_ticks()?;
        for child in self.read(&format!("task/{}/children", self.0))?.split_whitespace() {
            if let Ok(child) = child.parse() {
                ticks += Self(child).own_ticks()?;
            }
        }
        // USER_HZ is 100 on every Linux that Rust runs on.
        Ok(Duration::from_millis(ticks * 10))
    }

    fn own_ticks(self) -> Result<u64, LoadError> {
        let stat = self.read("stat")?;
        // The name in brackets may hold anything, the fields behind it are numbers; utime and stime are the 14th and 15th.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace().skip(11).collect();
        match fields.as_slice() {
            [user, system, ..] => Ok(user.parse().unwrap_or(0) + system.parse().unwrap_or(0)),
            _ => Err(LoadError::Setup(format!("process {} has no times", self.0))),
        }
    }
}

/// Sums the samples of one metric over its labels, from the admin listener at `place`.
pub(crate) async fn metric(place: &Place, name: &str) -> Result<Option<f64>, LoadError> {
    let text = get(place, "/metrics").await?;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        rest.strip_prefix(' ')?.split_whitespace().next()?.parse::<f64>().ok()
    });
    Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
}

/// Waits until a metric falls to `most`, and gives its last value if that is more.
pub(crate) async fn metric_falls(place: &Place, name: &str, most: f64) -> Result<f64, LoadError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let value = metric(place, name).await?;
        let value = value.ok_or_else(|| LoadError::Setup(format!("the gate has no metric {name}")))?;
        if value <= most || Instant::now() > until {
            return Ok(value);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The body of a GET.
async fn get(place: &Place, path: &str) -> Result<String, LoadError> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", place.host);
    Ok(exchange(place, head.as_bytes()).await?.1)
}

/// Sends one request and reads status line and body of its answer.
pub(crate) async fn exchange(place: &Place, request: &[u8]) -> Result<(String, String), LoadError> {
    let talk = async {
        let mut stream = TcpStream::connect(place.address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, talk).await.map_err(|_elapsed| LoadError::Late("an answer"))??;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
