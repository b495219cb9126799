//! The rows of `[limits]` that are in force. They are replaced as a whole; what is remembered of callers is not in them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::at_once::{Lasts, Place};
use super::book::Account;
use super::cost::Cost;
use super::gcra::Pace;
use super::headers::{Policy, Quota, Words};
use super::metrics::{LimitMetrics, RuleCounts};
use super::refusal::{Refusal, Why};
use super::settings::{AtOnceSettings, BudgetSettings, Lasting, LimitSettings, RuleSettings};
use super::subject::{Share, Subject};
use super::table::{Entry, Fingerprint, Standing, Table};

/// Time between two looks of a caller who waits for a place.
pub(super) const PLACE_WAIT: Duration = Duration::from_secs(1);

/// What limits at the moment.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) rules: Vec<Rule>,
    pub(super) budgets: Vec<Budget>,
    pub(super) at_once: Vec<AtOnce>,
    /// What callers are told of the rules.
    pub(super) words: Arc<Words>,
}

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) settings: RuleSettings,
    pub(super) pace: Pace,
    pub(super) name: Arc<str>,
    /// The name and what is counted: a share's key goes by both, so that it outlives a change of the settings.
    id: Fingerprint,
    pub(super) counts: RuleCounts,
}

#[derive(Debug)]
pub(super) struct Budget {
    pub(super) settings: BudgetSettings,
    pub(super) name: Arc<str>,
    pub(super) counts: RuleCounts,
}

#[derive(Debug)]
pub(super) struct AtOnce {
    pub(super) settings: AtOnceSettings,
    pub(super) name: Arc<str>,
    pub(super) counts: RuleCounts,
    pub(super) lasts: Lasts,
}

/// The rules that a call is charged to, and how each stands.
#[derive(Debug, Clone)]
pub(super) struct Charged {
    /// Indices of the rules.
    pub(super) which: Vec<usize>,
    pub(super) entries: Vec<Entry>,
}

impl Rows {
    /// The rows of settings without faults. What is counted at once goes on from `before`, where a row keeps its name and
    /// what it counts, by whom.
    pub(super) fn new(settings: &LimitSettings, table: &Table, metrics: &LimitMetrics, before: Option<&Self>) -> Self {
        let rule = |row: &RuleSettings| Rule {
            id: table.fingerprint((&row.name, row.of)),
            pace: row.pace().expect("its faults were looked for"),
            name: row.name.as_str().into(),
            counts: metrics.rule(&row.name),
            settings: row.clone(),
        };
        let at_once = |row: &AtOnceSettings| {
            let is_same = |old: &&AtOnce| {
                let old = &old.settings;
                (&old.name, old.of, old.by) == (&row.name, row.of, row.by)
            };
            let lasts = before.and_then(|rows| rows.at_once.iter().find(is_same)).map(|old| old.lasts.clone());
            AtOnce {
                name: row.name.as_str().into(),
                counts: metrics.rule(&row.name),
                settings: row.clone(),
                lasts: lasts.unwrap_or_default(),
            }
        };
        let budget = |row: &BudgetSettings| Budget {
            name: row.name.as_str().into(),
            counts: metrics.rule(&row.name),
            settings: row.clone(),
        };
        let rules: Vec<Rule> = settings.rule.iter().map(rule).collect();
        Self {
            words: Arc::new(Words::new(settings.headers, rules.iter().map(Rule::policy))),
            rules,
            at_once: settings.at_once.iter().map(at_once).collect(),
            budgets: settings.budget.iter().map(budget).collect(),
        }
    }

    /// Whether there is nothing to limit.
    pub(super) const fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.at_once.is_empty() && self.budgets.is_empty()
    }

    /// The names of all rows.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        let rules = self.rules.iter().map(|row| &row.name);
        rules.chain(self.at_once.iter().map(|row| &row.name)).chain(self.budgets.iter().map(|row| &row.name))
    }

    /// Takes a place in every row that is about what begins, or in none. Gives the rows' indices with their places.
    pub(super) fn take_places(
        &self,
        subject: &Subject,
        lasting: Option<Lasting>,
        ipv6_prefix: u8,
    ) -> Result<Vec<(usize, Place)>, Refusal> {
        let mut places = Vec::new();
        let Some(lasting) = lasting else { return Ok(places) };
        for (at, row) in self.at_once.iter().enumerate().filter(|(_, row)| row.settings.of == lasting) {
            let settings = &row.settings;
            if !subject.is_meant(settings.by, &settings.tiers, &settings.endpoints) {
                continue;
            }
            let share = subject.share(settings.by, ipv6_prefix);
            match row.lasts.take(share, settings.most.get()) {
                Some(place) => places.push((at, place)),
                None if settings.dry_run => row.counts.would_refuse(),
                None => {
                    row.counts.refused();
                    return Err(Refusal::new(&row.name, Why::AtOnce { of: lasting }, PLACE_WAIT));
                }
            }
        }
        Ok(places)
    }

    /// What the rules would take.
    pub(super) fn entries(&self, table: &Table, subject: &Subject, cost: Cost, ipv6_prefix: u8) -> Charged {
        let most = self.rules.len();
        let mut charged = Charged { which: Vec::with_capacity(most), entries: Vec::with_capacity(most) };
        // Most rules count by the same share: it is hashed once.
        let mut last = None;
        for (at, rule) in self.rules.iter().enumerate() {
            let row = &rule.settings;
            // More than the largest burst is more than any.
            let cells = u32::try_from(cost.cells(row.of)).unwrap_or(u32::MAX);
            let Some(cells) = NonZeroU32::new(cells).filter(|_| subject.is_meant(row.by, &row.tiers, &row.endpoints))
            else {
                continue;
            };
            let share = match last {
                Some((by, share)) if by == row.by => share,
                _ => table.fingerprint(subject.share(row.by, ipv6_prefix)),
            };
            last = Some((row.by, share));
            charged.entries.push(Entry {
                key: rule.id.of(share),
                pace: rule.pace,
                cells,
                only_counts: row.dry_run,
                standing: Standing::default(),
            });
            charged.which.push(at);
        }
        charged
    }

    /// The refusals of the rules that have something against the call.
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
                until if entry.standing.no_room => {
                    Refusal::new(&rule.name, Why::NoRoom, Duration::from_nanos(until - now))
                }
                u64::MAX => Refusal::new(&rule.name, Why::Never { of }, Duration::ZERO),
                until => Refusal::new(&rule.name, Why::TooFast { of }, Duration::from_nanos(until - now)),
            });
        }
        refusals
    }

    /// How the rules of a call stand, for its caller.
    pub(super) fn quotas(&self, charged: &Charged, now: u64) -> Vec<Quota> {
        if self.words.are_off() {
            return Vec::new();
        }
        let quota = |(at, of): (usize, &usize)| {
            let (rule, tat) = (&self.rules[*of], charged.entries[at].standing.tat);
            Quota {
                of: *of,
                left: rule.pace.left(tat, now) / rule.settings.of.cells_per_unit(),
                reset_s: whole_seconds(tat.saturating_sub(now)),
            }
        };
        let is_known = |(at, _): &(usize, &usize)| !charged.entries[*at].standing.no_room;
        charged.which.iter().enumerate().filter(is_known).map(quota).collect()
    }
}

impl Rule {
    /// The key of a share.
    pub(super) fn key(&self, table: &Table, share: Share<'_>) -> Fingerprint {
        self.id.of(table.fingerprint(share))
    }

    fn policy(&self) -> Policy {
        let (of, burst) = (self.settings.of, u64::from(self.pace.burst.get()));
        Policy {
            name: Arc::clone(&self.name),
            of,
            most: burst / of.cells_per_unit(),
            window_s: whole_seconds(burst * self.pace.refill.get()),
        }
    }
}

impl Budget {
    /// The account of a share. It goes by the name and what is counted: pictures are no cents.
    pub(super) fn account(&self, share: &Share<'_>) -> Account {
        Account::new(&format!("{} {}", self.name, self.settings.of.as_str()), share)
    }
}

const fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}
