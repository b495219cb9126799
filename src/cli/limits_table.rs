//! What limits did, as tables for people.

use falgate::guard::{CallerUsage, LimitKind, LimitUsage, Period, ShareBy, ShareStanding, Usage};

/// Everything, at a moment in seconds since 1970.
pub(super) fn of_all(usage: &Usage, now: u64) -> String {
    let mut text = String::new();
    if usage.limits.is_empty() {
        text.push_str("no limits are set\n");
    } else {
        let head = ["limit", "allows", "by", "now", "passed", "refused", "would refuse"];
        text.push_str(&table(&head, usage.limits.iter().map(|limit| limit_row(limit, now))));
    }
    for (title, callers) in [("this hour", &usage.top.this_hour), ("last hour", &usage.top.last_hour)] {
        if !callers.is_empty() {
            let head = [format!("calls most {title}"), "calls".to_owned(), "refused".to_owned()];
            text.push('\n');
            text.push_str(&table(&head.each_ref().map(String::as_str), callers.iter().take(20).map(caller_row)));
        }
    }
    if !usage.spent.is_empty() {
        let row = |spent: &falgate::guard::SpentUsage| {
            let left = in_words(spent.until.saturating_sub(now));
            [spent.key.clone(), spent.budget.clone(), spent.units.to_string(), left]
        };
        text.push('\n');
        text.push_str(&table(&["spent most", "budget", "units", "anew in"], usage.spent.iter().take(20).map(row)));
    }
    text.push_str(&format!("\n{} of {} keys remembered\n", usage.live_keys, usage.room_for_keys));
    text
}

/// How one share stands.
pub(super) fn of_share(standing: &ShareStanding) -> String {
    if standing.limits.is_empty() {
        return format!("{}: no limit has such shares\n", standing.key);
    }
    let row = |limit: &falgate::guard::Standing| {
        let whole = match limit.whole_in_s {
            Some(0) => "now".to_owned(),
            Some(seconds) => format!("in {}", in_words(seconds)),
            None => "as they end".to_owned(),
        };
        [limit.name.clone(), limit.left.to_string(), limit.most.to_string(), whole]
    };
    format!("{}\n\n{}", standing.key, table(&["limit", "left", "of", "whole"], standing.limits.iter().map(row)))
}

fn limit_row(limit: &LimitUsage, now: u64) -> [String; 7] {
    let (allows, stands) = match &limit.kind {
        LimitKind::Rule { of, amount, per_ms, burst } => {
            let burst = if burst == amount { String::new() } else { format!(", {burst} at once") };
            (format!("{amount} {} in {}{burst}", of.as_str(), milliseconds(*per_ms)), "-".to_owned())
        }
        LimitKind::AtOnce { of, amount, now } => (format!("{amount} {} at once", of.as_str()), now.to_string()),
        LimitKind::Budget { of, amount, per, spent, until } => {
            let per = match per {
                Period::Hour => "an hour",
                Period::Day => "a day",
                Period::Month => "a month",
            };
            let left = in_words(until.saturating_sub(now));
            (format!("{amount} {} {per}", of.as_str()), format!("{spent}, anew in {left}"))
        }
    };
    let by = match limit.by {
        ShareBy::Address => "address",
        ShareBy::Site => "site",
        ShareBy::Caller => "caller",
        ShareBy::Named => "named",
        ShareBy::Tier => "tier",
        ShareBy::Endpoint => "endpoint",
        ShareBy::All => "all",
    };
    let name = if limit.dry_run { format!("{} (dry run)", limit.name) } else { limit.name.clone() };
    let [passed, refused, would] = [limit.passed, limit.refused, limit.would_refuse].map(|count| count.to_string());
    [name, allows, by.to_owned(), stands, passed, refused, would]
}

fn caller_row(caller: &CallerUsage) -> [String; 3] {
    let about = if caller.overstated == 0 { "" } else { "at most " };
    [caller.key.clone(), format!("{about}{}", caller.calls), caller.refused.to_string()]
}

fn milliseconds(count: u64) -> String {
    if count.is_multiple_of(1000) { in_words(count / 1000) } else { format!("{count} ms") }
}

/// The two largest units of a time.
fn in_words(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut rest = seconds;
    let parts = units.into_iter().filter_map(|(unit, length)| {
        let count = rest / length;
        rest %= length;
        (count > 0).then(|| format!("{count} {unit}"))
    });
    let words: Vec<_> = parts.take(2).collect();
    if words.is_empty() { "0 s".to_owned() } else { words.join(" ") }
}

/// Columns as wide as their widest cell, two spaces apart.
fn table<const N: usize>(head: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let words = [0, 59, 60, 3661, 86_400 + 7200].map(in_words);
        assert_eq!(words, ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 2 h"]);
        assert_eq!((milliseconds(1500), milliseconds(60_000)), ("1500 ms".to_owned(), "1 min".to_owned()));
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["k", "v"], rows.into_iter()), "k       v\na       1\nlonger  22\n");
    }
}
