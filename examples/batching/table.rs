//! A table of costs as text: `phase side rows milliseconds`, a line a call; `#` begins a remark.

use std::path::Path;
use std::time::Duration;

use falgate::engine::{Costs, Phase, Size};

use super::Fault;

/// Reads a table: its remarks, the size of its pictures, the costs.
pub(crate) fn read(path: &Path) -> Result<(Vec<String>, Size, Costs), Fault> {
    let text = std::fs::read_to_string(path).map_err(|cause| Fault::Read { path: path.to_owned(), cause })?;
    let (mut remarks, mut size, mut costs) = (Vec::new(), (0, 0), Costs::default());
    for (index, line) in text.lines().enumerate() {
        if let Some(remark) = line.strip_prefix('#') {
            remarks.push(remark.trim().to_owned());
        } else if !line.trim().is_empty() {
            let (phase, side, rows, ms) =
                parse(line).ok_or_else(|| Fault::Line { line: index + 1, text: line.to_owned() })?;
            size = (side, side);
            // A cost is believed after three calls.
            (0..3).for_each(|_| costs.note(phase, (size, rows), Duration::from_secs_f64(ms / 1e3)));
        }
    }
    Ok((remarks, size, costs))
}

fn parse(line: &str) -> Option<(Phase, u32, usize, f64)> {
    let mut words = line.split_whitespace();
    let phase = match words.next()? {
        "encode" => Phase::Encode,
        "step" => Phase::Step,
        "decode" => Phase::Decode,
        "check" => Phase::Check,
        _ => return None,
    };
    let (side, rows, ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let is_cost = |ms: f64| ms.is_finite() && ms >= 0.0;
    (is_cost(ms) && rows > 0 && words.next().is_none()).then_some((phase, side, rows, ms))
}

/// A line of a table.
pub(crate) fn line(phase: Phase, (side, rows): (u32, usize), took: Duration) -> String {
    let phase = match phase {
        Phase::Encode => "encode",
        Phase::Step => "step",
        Phase::Decode => "decode",
        Phase::Check => "check",
    };
    format!("{phase} {side} {rows} {:.2}", took.as_secs_f64() * 1e3)
}
