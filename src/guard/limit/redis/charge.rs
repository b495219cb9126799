//! One decision of a store: asked in one script, read back as if it had been made here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lease::{Stands, Wish};
use super::places::{self, HeldPlace};
use super::{Inner, RedisStore, SharedReceipt, StoreError};
use crate::guard::limit::cost::Cost;
use crate::guard::limit::headers::Told;
use crate::guard::limit::limits::{Inner as LimitsInner, Limits};
use crate::guard::limit::receipt::{Receipt, Taken};
use crate::guard::limit::refusal::{Refusal, Why};
use crate::guard::limit::rows::{Charged, PLACE_WAIT, Rows};
use crate::guard::limit::settings::{Lasting, Period};
use crate::guard::limit::store_settings::WhenStoreIsDown;
use crate::guard::limit::subject::Subject;
use crate::guard::limit::table::Standing;

/// Most that a script counts exactly.
const MOST: u64 = 1 << 52;
/// Numbers of a rule in the script's question, of which the last is its wish for a lease.
const RULE_NUMBERS: usize = 4;

/// What a store is asked.
pub(super) struct Ask {
    rows: Arc<Rows>,
    charged: Charged,
    /// Indices of budgets and of limits of what lasts.
    budgets: Vec<usize>,
    at_once: Vec<usize>,
    /// Of rules, then budgets, then what lasts.
    keys: Vec<String>,
    numbers: Vec<u64>,
    lasting: Option<Lasting>,
    cost: Cost,
}

/// What a store answered.
struct Answer {
    passes: bool,
    /// The server's time in microseconds.
    now: u64,
    rest: std::vec::IntoIter<i64>,
}

impl RedisStore {
    /// Takes what a call costs from every share that it is charged to, or nothing from any.
    pub(in crate::guard::limit) async fn charge(
        &self,
        limits: &Limits,
        subject: &Subject,
        (cost, lasting): (Cost, Option<Lasting>),
    ) -> Result<Receipt, Refusal> {
        let store = &*self.0;
        let inner = limits.inner();
        let mut ask = Ask::new(store, inner, subject, (cost, lasting));
        if ask.keys.is_empty() {
            return limits.charge_here(subject, cost, lasting);
        }
        let asked = Instant::now();
        if ask.may_lease(store) {
            if let Some(receipt) = ask.pay(self, limits, asked) {
                inner.metrics.leased();
                let paid = Ok(receipt);
                inner.note(subject, &paid);
                return paid;
            }
            ask.wish(store, asked);
        }
        let name = rand::random::<u128>();
        let first_place = ask.charged.which.len() + ask.budgets.len();
        // Made before the store is asked: a caller that goes away meanwhile leaves no place taken.
        let place = (!ask.at_once.is_empty()).then(|| HeldPlace::new(store, name, ask.keys[first_place..].to_vec()));
        let charged = match ask.send(store, name).await {
            Ok(answer) => ask.read(self, limits, (answer, place, asked)),
            Err(_) => match ask.firm() {
                Some(limit) => {
                    inner.metrics.store_refused();
                    Err(Refusal::new(limit, Why::NoStore, PLACE_WAIT))
                }
                None => {
                    inner.metrics.store_local();
                    return limits.charge_here(subject, cost, lasting);
                }
            },
        };
        inner.note(subject, &charged);
        charged
    }
}

impl Ask {
    pub(super) fn new(
        store: &Inner,
        limits: &LimitsInner,
        subject: &Subject,
        (cost, lasting): (Cost, Option<Lasting>),
    ) -> Self {
        let rows = limits.rows.load_full();
        let prefix = limits.ipv6_prefix();
        let charged = rows.entries(&limits.table, subject, cost, prefix);
        let (mut keys, mut numbers) = (Vec::new(), Vec::new());
        for (at, rule) in charged.which.iter().enumerate() {
            let (entry, rule) = (&charged.entries[at], &rows.rules[*rule]);
            let micros = |cells: u32| (u64::from(cells).saturating_mul(entry.pace.refill.get())).div_ceil(1000);
            let full = micros(entry.pace.burst.get());
            let cost = if entry.cells > entry.pace.burst { full + 1 } else { micros(entry.cells.get()) };
            keys.push(store.key((&rule.name, rule.settings.of.as_str()), &subject.share(rule.settings.by, prefix)));
            numbers.extend([cost, full, u64::from(entry.only_counts), 0]);
        }
        let mut budgets = Vec::new();
        for (at, budget) in rows.budgets.iter().enumerate() {
            let row = &budget.settings;
            let cells = cost.cells(row.of).min(MOST);
            if cells == 0 || !subject.is_meant(row.by, &row.tiers, &row.endpoints) {
                continue;
            }
            let period = match row.per {
                Period::Hour => 3600,
                Period::Day => 86_400,
                Period::Month => 0,
            };
            let limit = row.amount.get().saturating_mul(row.of.cells_per_unit()).min(MOST);
            keys.push(store.key((&budget.name, row.of.as_str()), &subject.share(row.by, prefix)));
            numbers.extend([cells, limit, period, u64::from(row.dry_run)]);
            budgets.push(at);
        }
        let mut at_once = Vec::new();
        for (at, row) in rows.at_once.iter().enumerate() {
            let settings = &row.settings;
            if Some(settings.of) == lasting && subject.is_meant(settings.by, &settings.tiers, &settings.endpoints) {
                keys.push(store.key((&row.name, settings.of.as_str()), &subject.share(settings.by, prefix)));
                numbers.extend([u64::from(settings.most.get()), u64::from(settings.dry_run)]);
                at_once.push(at);
            }
        }
        Self { rows, charged, budgets, at_once, keys, numbers, lasting, cost }
    }

    async fn send(&self, store: &Inner, name: u128) -> Result<Answer, StoreError> {
        let mut call = store.charge.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        call.arg(self.charged.which.len()).arg(self.budgets.len()).arg(self.at_once.len());
        call.arg(places::name_of(name)).arg(u64::try_from(store.place_lease.as_millis()).unwrap_or(MOST).min(MOST));
        for number in &self.numbers {
            call.arg(*number);
        }
        let answer: Vec<i64> = store.run(&call).await?;
        let expected = 2 + 3 * self.charged.which.len() + 2 * self.budgets.len() + self.at_once.len();
        if answer.len() != expected || answer[1] < 0 {
            return Err(StoreError::Answer);
        }
        let mut rest = answer.into_iter();
        let passes = rest.next() == Some(1);
        Ok(Answer { passes, now: rest.number(), rest })
    }

    /// A limit that may not do without the store, if there is one.
    pub(super) fn firm(&self) -> Option<&Arc<str>> {
        let limits = &*self.rows;
        let is_firm = |when: WhenStoreIsDown| when == WhenStoreIsDown::Refuse;
        let rules = self.charged.which.iter().map(|at| &limits.rules[*at]);
        let rules = rules.map(|rule| (&rule.name, rule.settings.when_store_is_down));
        let budgets = self.budgets.iter().map(|at| &limits.budgets[*at]);
        let budgets = budgets.map(|budget| (&budget.name, budget.settings.when_store_is_down));
        let at_once = self.at_once.iter().map(|at| &limits.at_once[*at]);
        let at_once = at_once.map(|row| (&row.name, row.settings.when_store_is_down));
        rules.chain(budgets).chain(at_once).find(|(_, when)| is_firm(*when)).map(|(name, _)| name)
    }

    /// Reads the answer as the table and the book would have given it.
    fn read(
        mut self,
        store: &RedisStore,
        limits: &Limits,
        (mut answer, place, asked): (Answer, Option<HeldPlace>, Instant),
    ) -> Result<Receipt, Refusal> {
        let rows = Arc::clone(&self.rows);
        let now = answer.now.saturating_mul(1000);
        for at in 0..self.charged.which.len() {
            let mut tat = answer.rest.number().saturating_mul(1000);
            let until = answer.rest.next().unwrap_or(-1);
            let until = u64::try_from(until).map_or(u64::MAX, |until| until.saturating_mul(1000));
            let leased = answer.rest.number() * u64::from(self.charged.entries[at].cells.get());
            if self.numbers[RULE_NUMBERS * at + RULE_NUMBERS - 1] > 0 {
                let leased = if answer.passes { leased } else { 0 };
                store.0.leases.keep(&self.keys[at], leased, Stands { tat, server_now: now, asked });
                tat = tat.saturating_sub(leased.saturating_mul(self.charged.entries[at].pace.refill.get()));
            }
            self.charged.entries[at].standing = Standing { tat, until, no_room: false };
        }
        let mut worst = None;
        let mut ends = Vec::new();
        for at in &self.budgets {
            let (end, over) = (answer.rest.number(), answer.rest.next() == Some(1));
            let budget = &rows.budgets[*at];
            ends.push(end);
            let of = budget.settings.of;
            if over && budget.settings.dry_run {
                budget.counts.would_refuse();
            } else if over {
                budget.counts.refused();
                let limit = budget.settings.amount.get().saturating_mul(of.cells_per_unit());
                let why = if self.cost.cells(of) > limit { Why::Never { of } } else { Why::Spent { of } };
                let wait = Duration::from_micros((end * 1_000_000).saturating_sub(answer.now));
                worst = Some(Refusal::longer(worst, Refusal::new(&budget.name, why, wait)));
            } else if answer.passes {
                budget.counts.passed();
            }
        }
        for at in &self.at_once {
            let (row, taken) = (&rows.at_once[*at], answer.rest.next() == Some(1));
            match (taken, self.lasting) {
                (true, _) if row.settings.dry_run => row.counts.would_refuse(),
                (true, Some(of)) => {
                    row.counts.refused();
                    let refusal = Refusal::new(&row.name, Why::AtOnce { of }, PLACE_WAIT);
                    worst = Some(Refusal::longer(worst, refusal));
                }
                (false, _) if answer.passes => row.counts.passed(),
                (_, _) => {}
            }
        }
        let told = Told::new(&rows.words, rows.quotas(&self.charged, now));
        if !answer.passes {
            if let Some(place) = place {
                place.forget();
            }
            let refusals = rows.refusals(&self.charged, now).into_iter();
            let worst = refusals.fold(worst, |worst, next| Some(Refusal::longer(worst, next)));
            let worst = worst.unwrap_or_else(|| Refusal::new(&"store".into(), Why::NoStore, PLACE_WAIT));
            return Err(worst.with_told(told));
        }
        if let Some(place) = &place {
            place.keep();
        }
        let shared = self.receipt(store, (ends, place));
        let Self { mut charged, cost, .. } = self;
        // Nothing was charged in this process.
        charged.which.clear();
        let (budgets, places) = (Vec::new(), Vec::new());
        Ok(Receipt::new(limits.clone(), Taken { rows, charged, budgets, places, cost, told, shared: Some(shared) }))
    }

    /// Whether rules alone decide, of which none only counts.
    fn may_lease(&self, store: &Inner) -> bool {
        let rules_only = self.budgets.is_empty() && self.at_once.is_empty();
        store.leases.are_on() && rules_only && !self.charged.entries.iter().any(|entry| entry.only_counts)
    }

    /// Wishes for leases with the question.
    fn wish(&mut self, store: &Inner, now: Instant) {
        for (at, key) in self.keys.iter().enumerate() {
            self.numbers[RULE_NUMBERS * at + RULE_NUMBERS - 1] = store.leases.ask(key, now).into();
        }
    }

    /// Pays from what was taken ahead, where that does for all rules.
    fn pay(&mut self, store: &RedisStore, limits: &Limits, now: Instant) -> Option<Receipt> {
        let entries = self.charged.entries.iter().zip(&self.keys);
        let wish = entries.map(|(entry, key)| {
            let (cells, refill) = (entry.cells.get().into(), entry.pace.refill.get());
            Wish { key, cells, refill }
        });
        let paid = store.0.leases.pay(&wish.collect::<Vec<_>>(), now)?;
        for (entry, paid) in self.charged.entries.iter_mut().zip(&paid) {
            entry.standing = Standing { tat: paid.tat, until: 0, no_room: false };
        }
        let server_now = paid.iter().map(|paid| paid.now).max().unwrap_or_default();
        let rows = Arc::clone(&self.rows);
        let told = Told::new(&rows.words, rows.quotas(&self.charged, server_now));
        let shared = Some(self.receipt(store, (Vec::new(), None)));
        let charged = Charged { which: Vec::new(), entries: Vec::new() };
        let (budgets, places, cost) = (Vec::new(), Vec::new(), self.cost);
        Some(Receipt::new(limits.clone(), Taken { rows, charged, budgets, places, cost, told, shared }))
    }

    fn receipt(&self, store: &RedisStore, (ends, place): (Vec<u64>, Option<HeldPlace>)) -> SharedReceipt {
        let mut rules = Vec::new();
        for (at, rule) in self.charged.which.iter().enumerate() {
            let (entry, rule) = (&self.charged.entries[at], &self.rows.rules[*rule]);
            if entry.standing.refuses() {
                // It only counts, and counts nothing that it would have refused.
                rule.counts.would_refuse();
            } else {
                rule.counts.passed();
                rules.push((self.keys[at].clone(), rule.settings.of, entry.pace.refill.get()));
            }
        }
        let keys = &self.keys[self.charged.which.len()..];
        let budgets = self.budgets.iter().zip(keys).zip(ends);
        let budgets = budgets.map(|((at, key), end)| (key.clone(), self.rows.budgets[*at].settings.of, end)).collect();
        SharedReceipt { store: store.clone(), rules, budgets, place }
    }
}

/// Numbers of an answer, none of which is negative but where the script says so.
trait Numbers {
    fn number(&mut self) -> u64;
}

impl Numbers for std::vec::IntoIter<i64> {
    fn number(&mut self) -> u64 {
        self.next().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
    }
}
