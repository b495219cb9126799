//! How the rules of a call stand after a decision: refusals, and what the caller is told.

use std::sync::Arc;
use std::time::Duration;

use super::headers::Quota;
use super::limits::{Charged, Inner};
use super::refusal::{Refusal, Why};
use super::settings::LimitHeaders;

impl Inner {
    pub(super) fn refusals(&self, charged: &Charged, now: u64) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (at, rule) in charged.which.iter().enumerate() {
            let (entry, rule) = (&charged.entries[at], &self.rules[*rule]);
            if !entry.standing.refuses() || entry.only_counts {
                continue;
            }
            rule.counts.refused();
            let of = rule.settings.of;
            refusals.push(match entry.standing.until {
                u64::MAX => Refusal::new(&rule.name, Why::Never { of }, Duration::ZERO),
                until => Refusal::new(&rule.name, Why::TooFast { of }, Duration::from_nanos(until - now)),
            });
        }
        refusals
    }

    /// How the rules of a call stand, for its caller.
    pub(super) fn quotas(&self, charged: &Charged, now: u64) -> Vec<Quota> {
        if self.headers == LimitHeaders::Off {
            return Vec::new();
        }
        let quota = |(at, rule): (usize, &usize)| {
            let (rule, tat) = (&self.rules[*rule], charged.entries[at].standing.tat);
            let (of, burst) = (rule.settings.of, u64::from(rule.pace.burst.get()));
            Quota {
                name: Arc::clone(&rule.name),
                of,
                most: burst / of.cells_per_unit(),
                window_s: whole_seconds(burst * rule.pace.refill.get()),
                left: rule.pace.left(tat, now) / of.cells_per_unit(),
                reset_s: whole_seconds(tat.saturating_sub(now)),
            }
        };
        charged.which.iter().enumerate().map(quota).collect()
    }
}

const fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}
