//! Painters in front of a device of numbers.

use std::time::Duration;

use falgate::engine::simulation::{Crowd, Device, Policy, simulate};

use super::{Fault, Simulate, table};

const PAINTERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Prints what painters get by each policy.
pub(crate) fn run(task: &Simulate) -> Result<(), Fault> {
    let (remarks, size, costs) = table::read(&task.table)?;
    remarks.iter().for_each(|remark| println!("# {remark}"));
    let device = Device { costs, rows: task.rows, size };
    println!("# {} px, {} steps, {} rows a call, {} s, seed {}", size.0, task.steps, task.rows, task.span_s, task.seed);
    println!(
        "| painters | policy | pictures/s | median ms | p95 ms | rows a call | longest wait, steps | fewest … most |"
    );
    println!("|---:|---|---:|---:|---:|---:|---:|---|");
    for painters in PAINTERS {
        for (name, policy) in
            [("one by one", Policy::OneByOne), ("whole requests", Policy::WholeRequests), ("steps", Policy::Steps)]
        {
            let span = Duration::from_secs(task.span_s);
            let crowd = Crowd { painters, steps: vec![task.steps], span, seed: task.seed, ..Crowd::default() };
            let report = simulate(&crowd, &device, policy);
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            println!(
                "| {painters} | {name} | {:.1} | {:.0} | {:.0} | {:.1} | {} | {:.2} … {:.2} |",
                report.pictures_per_s,
                ms(report.median),
                ms(report.p95),
                report.rows_per_call,
                report.longest_wait,
                report.fewest,
                report.most
            );
        }
    }
    Ok(())
}
