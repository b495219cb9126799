//! A measurement as people read it.

use std::fmt::Write as _;

use falgate::engine::BenchRow;

use super::bench::Report;

/// The widths of the table's columns.
const HEAD: &str =
    "phase             batch   median ms  ms/row   rows/s   least ms    most ms  calls   process    device";

/// The whole report.
pub(super) fn table(report: &Report) -> String {
    let (model, machine, options) = (&report.model, &report.machine, &report.options);
    let mut text = String::new();
    let mut add = |line: String| writeln!(text, "{line}").expect("a string takes any text");
    add(format!("model     {}, opened in {:.1} s", model.folder.display(), model.opened_s));
    if let Some(manifest) = &model.manifest {
        let onnx_kind = [&manifest.precision, &manifest.autoencoder].map(String::as_str).join(", autoencoder ");
        add(format!("variant   {}: {onnx_kind}, from {}", manifest.variant, manifest.source));
    }
    let gpu = machine.gpu.as_ref().map(|gpu| format!(", {gpu}")).unwrap_or_default();
    add(format!("machine   {}, {} cores, {}{gpu}", machine.processor, machine.cores, machine.system));
    let threads = options.threads.map_or_else(|| "one a core".to_owned(), |threads| threads.to_string());
    add(format!("provider  {}, threads {threads}, {}", options.device, options.runtime));
    let plan = &options.plan;
    let load = machine.load.map(|load| format!(", load {load}")).unwrap_or_default();
    add(format!(
        "options   {side}×{side} px, {} warm-up calls, at most {} measured in {:.0} s{load}, falgate {} ({})",
        plan.warm_up,
        plan.rounds,
        plan.row_limit.as_secs_f64(),
        machine.falgate,
        machine.build,
        side = plan.side_px,
    ));
    add(String::new());
    add(HEAD.to_owned());
    for row in &report.rows {
        add(line(row));
    }
    text
}

/// One line of the table.
pub(super) fn line(row: &BenchRow) -> String {
    let phase = match row.steps {
        None => row.part.to_owned(),
        Some(1) => "picture, 1 step".to_owned(),
        Some(steps) => format!("picture, {steps} steps"),
    };
    let bytes =
        |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9));
    let (process, device) = (bytes(row.process_bytes), bytes(row.device_bytes));
    let Some(times) = &row.times else {
        return format!("{phase:<17} {:>5}   too little memory {process:>44} {device:>9}", row.batch);
    };
    format!(
        "{phase:<17} {:>5} {:>11.2} {:>7.2} {:>8.1} {:>10.2} {:>10.2} {:>6} {process:>9} {device:>9}",
        row.batch,
        times.median_ms,
        times.median_ms / row.batch as f64,
        times.rows_per_s,
        times.least_ms,
        times.most_ms,
        times.calls,
    )
}
